"""A certificate as one page for the files of a data protection officer."""
