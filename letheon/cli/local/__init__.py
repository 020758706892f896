"""A whole federation on one machine, as real processes: what `letheon up` and the demo share."""
