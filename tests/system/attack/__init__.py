"""Attacks on a real federation: `python -m tests.system.attack`."""
