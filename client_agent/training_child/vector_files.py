"""Vectors between daemon and training process: models in, encoded payloads out."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from letheon.errors import PayloadCorrupt
from letheon.federation.encoding import decode, encode
from letheon.federation.parameters import Layout, Vector
from letheon.federation.plan import Plan
from letheon.federation.validation import check_values


def read_vector(path: Path, layout: Layout) -> Vector:
    """A model [d] from raw little-endian float32. Raises PayloadCorrupt for another size."""
    if path.stat().st_size != layout.size * 4:
        raise PayloadCorrupt(f"a model of {layout.size} values has {layout.size * 4} bytes")
    return np.fromfile(path, dtype="<f4").astype(np.float32, copy=False)


def write_payload(
    vector: Vector, plan: Plan, target: Path, *, encoding: str, max_norm: float | None
) -> dict[str, Any]:
    """Encodes a delta or patch [d] and writes it durably.

    Raises MalformedUpdate if what would travel is not finite, or its L2 norm is above `max_norm`:
    the coordinator would refuse it, and nothing that diverged leaves the site.
    """
    check_values(vector, plan.parameters, None)  # not every encoding can write what is not finite
    encoded = encode(vector, encoding, top_share=plan.top_share)
    length = check_values(decode(encoded, encoding), plan.parameters, max_norm)
    with target.open("wb") as file:
        file.write(encoded)
        file.flush()
        os.fsync(file.fileno())
    return {
        "path": str(target),
        "size_bytes": len(encoded),
        "sha256": hashlib.sha256(encoded).hexdigest(),
        "encoding": encoding,
        "norm": length,
    }
