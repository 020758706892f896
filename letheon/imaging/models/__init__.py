"""Networks, one a file, and the reading and writing of their weights."""
