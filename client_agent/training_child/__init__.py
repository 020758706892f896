"""The one process of a site that holds records and torch.

It speaks JSON lines with the daemon: a command a line on stdin, a reply a line on stdout, vectors
as files. Nothing but replies is written to stdout; logs go to stderr.
"""
