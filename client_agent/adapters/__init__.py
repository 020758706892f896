"""Disk, wire and training process behind the ports."""
