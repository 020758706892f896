"""The rules of the coordinator: values and pure functions."""
