"""A federation under a real Prometheus: every panel is asked and drawn."""
