"""How the calibrator reaches the world."""
