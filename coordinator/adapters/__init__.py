"""The ports, on SQL and on a disk."""
