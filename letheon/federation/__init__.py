"""The rules of the federation: pure functions on float32 arrays, no clock, no wire, no store."""
