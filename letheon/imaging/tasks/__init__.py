"""What a federation learns to say of a record; one task a file, entry points `letheon.tasks`."""
