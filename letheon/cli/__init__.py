"""The `letheon` command: everything an operator, an auditor or a data protection officer types."""
