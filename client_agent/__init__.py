"""The agent: the daemon of one site. It connects out, never listens, and keeps the data home."""
