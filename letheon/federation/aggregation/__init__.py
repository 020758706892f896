"""Strategies: how much of a delta enters the head. One file each."""
