"""Fuzzing: targets that the tests replay without a fuzzer, and `make fuzz` runs for minutes."""
