"""Vectors between daemon and training process."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from client_agent.training_child.vector_files import read_vector, write_payload
from letheon.errors import MalformedUpdate, PayloadCorrupt
from letheon.federation.encoding import decode
from letheon.federation.plan import Plan


def a_plan(encoding: str = "float32") -> Plan:
    return Plan.model_validate(
        {
            "name": "tiny",
            "classes": 2,
            "model": {"plugin": "small_cnn"},
            "image": {"channels": 1, "height": 8, "width": 8},
            "encoding": encoding,
            "layout": [{"name": "a", "shape": [2, 2]}, {"name": "b", "shape": [1]}],
        }
    )


VECTOR = np.array([1.0, -2.0, 0.5, 0.25, 3.0], np.float32)


@pytest.mark.parametrize("encoding", ["float32", "float16", "bfloat16", "int8"])
def test_a_payload_is_what_its_digest_says(tmp_path: Path, encoding: str) -> None:
    told = write_payload(
        VECTOR, a_plan(encoding), tmp_path / "delta", encoding=encoding, max_norm=None
    )
    content = (tmp_path / "delta").read_bytes()
    assert told["sha256"] == hashlib.sha256(content).hexdigest()
    assert (told["size_bytes"], told["encoding"]) == (len(content), encoding)
    error = np.abs(decode(content, encoding) - VECTOR)
    assert np.all(error <= (3.0 / 254 if encoding == "int8" else 0.0))


@pytest.mark.parametrize(("bad", "rule"), [(np.nan, "finite"), (np.inf, "finite"), (9.0, "norm")])
def test_a_delta_that_diverged_does_not_leave_the_site(
    tmp_path: Path, bad: float, rule: str
) -> None:
    vector = VECTOR.copy()
    vector[4] = bad
    with pytest.raises(MalformedUpdate) as refused:
        write_payload(vector, a_plan(), tmp_path / "delta", encoding="float32", max_norm=5.0)
    assert refused.value.facts["rule"] == rule
    assert not (tmp_path / "delta").exists()


def test_a_model_of_another_size_is_not_read(tmp_path: Path) -> None:
    VECTOR[:4].astype("<f4").tofile(tmp_path / "model")
    with pytest.raises(PayloadCorrupt):
        read_vector(tmp_path / "model", a_plan().parameters)
