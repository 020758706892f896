"""What an operator can have checked: the configuration file, and the whole set-up (doctor)."""
