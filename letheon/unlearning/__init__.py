"""Unlearning methods, their tests and the certificate; importing a module here needs no torch."""
