"""The allocator keeps what transfers need, in a process of its own: the setting is for good."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from letheon.servicekit.allocator import keep_transfer_buffers
from letheon.v1.models_pb2 import Chunk
if sys.argv[1] == "kept" and not keep_transfer_buffers():
    raise SystemExit("no mallopt")
data = bytes(1 << 20)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        Chunk(data=data).SerializeToString()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is of glibc")
def test_chunks_fault_in_no_new_pages_once_buffers_are_kept() -> None:
    command = [sys.executable, "-c", _FAULTS]
    kept = subprocess.run([*command, "kept"], capture_output=True, text=True, check=True)
    assert int(kept.stdout) < 50  # 20 chunks have 5,120 pages
