"""The `letheon-agent` command: one file a subcommand."""
