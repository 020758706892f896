"""What a model still shows of an erased subject: one test a file."""
