"""The agent: the daemon of one site. It connects out, never listens, and keeps the data home."""

import os

# gRPC's core writes lines of its own to standard error, where ours are JSON; it reads this once.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
