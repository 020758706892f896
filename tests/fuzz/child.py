"""One target under atheris: `python -m tests.fuzz.child NAME`, then arguments of libFuzzer."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))  # of `builders`

from .target import load

# Of address space, beyond what the process has after the plainest input: whoever believes a length
# that somebody wrote into a header gets a MemoryError, which no reader documents.
ROOM_BYTES = 512 << 20
_WATCHED = ["letheon", "coordinator", "client_agent", "calibrator"]


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, *arguments = sys.argv[1:]
    with atheris.instrument_imports(include=_WATCHED, enable_loader_override=False):
        target = load(name)
    for seed in target.seeds():
        target.run(seed)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM_BYTES, taken + ROOM_BYTES))
    atheris.Setup([sys.argv[0], f"-max_len={target.longest}", *arguments], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
