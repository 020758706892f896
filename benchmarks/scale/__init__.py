"""What grows with the number of deltas and sites, and what must not."""
