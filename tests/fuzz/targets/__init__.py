"""One target a file; each has `TARGET`."""
