"""Generated from protos/letheon/v1 by `make protos`. Never edited."""
