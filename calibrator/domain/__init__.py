"""What the calibrator knows of an erasure."""
