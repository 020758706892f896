"""The coordinator: holds the ledger, the head and what is derived from them."""
