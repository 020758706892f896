"""RebuildModel behind a real server, and the command that calls it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_plan
from erasure_builders import Federation, a_running_federation
from typer.testing import CliRunner

from coordinator.domain.model import Compaction
from coordinator.services.rebuild_model import Rebuild, RebuildModel, Rebuilt
from letheon.cli.main import app
from letheon.errors import (
    ExportSuspended,
    MalformedRequest,
    ModelDestroyed,
    PayloadCorrupt,
    RebuildRunning,
    RequestAltered,
    UnknownModelVersion,
    UnknownSite,
    VersionCompacted,
)
from letheon.federation.arithmetic import relative_error
from letheon.federation.parameters import Vector, digest, read_safetensors
from letheon.servicekit.signing import SigningKey
from letheon.v1 import models_pb2


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with a_running_federation(tmp_path) as running:
        yield running


def ask(
    federation: Federation, version: int, *without: str, **more: Any
) -> Iterator[models_pb2.RebuildModelResponse]:
    fields: dict[str, Any] = {"request_id": str(uuid.uuid4()), "recipient": "auditor", **more}
    return iter(
        federation.client.models.RebuildModel(
            models_pb2.RebuildModelRequest(
                version=version, without=[f"sites/{site}" for site in without], **fields
            ),
            timeout=30.0,
        )
    )


def rebuild(
    federation: Federation, version: int, *without: str, **more: Any
) -> tuple[models_pb2.RebuiltModel, Vector]:
    parts = [p for p in ask(federation, version, *without, **more) if not p.HasField("progress")]
    data = b"".join(part.chunk.data for part in parts[1:])
    return parts[0].header, np.frombuffer(data, dtype="<f4")


def exports(federation: Federation) -> list[models_pb2.Export]:
    request = models_pb2.ListExportsRequest()
    return list(federation.client.models.ListExports(request).exports)


def heads_while_training(federation: Federation, rounds: int = 4) -> dict[int, str]:
    """The digest of every head that a delta of one of three sites left."""
    seen = {}
    for seed in range(rounds):
        for i, site in enumerate(("north", "south", "west")):
            federation.train(site, seed=100 * seed + 10 * i)
            seen[federation.version] = digest(federation.head)
    return seen


@pytest.mark.parametrize("strategy", [None, {"plugin": "fedbuff", "arguments": {"buffer_size": 3}}])
def test_every_version_is_rebuilt_bit_for_bit(
    tmp_path: Path, strategy: dict[str, Any] | None
) -> None:
    plan = a_plan(**({} if strategy is None else {"strategy": strategy}))
    with a_running_federation(tmp_path, plan=plan) as federation:
        seen = {0: digest(federation.head)}
        federation.train("north")
        seen[federation.version] = digest(federation.head)
        federation.train("west", "south", "south", seed=50)
        federation.train("west", seed=900)
        federation.job(federation.request("south").name).remove()
        seen[federation.version] = digest(federation.head)
        with federation.coordinator.core.store.write() as uow:
            for checkpoint in uow.checkpoints.all():  # the replay is to cross the removal
                uow.checkpoints.remove(checkpoint.entry)
            uow.commit()
        for seed in range(3):
            federation.train("north", "west", seed=1000 + 50 * seed)
            seen[federation.version] = digest(federation.head)
        for version, expected in seen.items():
            header, values = rebuild(federation, version)
            assert (header.version, header.sha256) == (version, expected)
            assert digest(values) == expected


def test_versions_with_checkpoints_and_without_are_the_same(federation: Federation) -> None:
    seen = heads_while_training(federation, 2)
    federation.coordinator.core.derived.checkpoint()
    seen |= heads_while_training(federation, 1)
    for version, expected in seen.items():
        header, _ = rebuild(federation, version)
        assert header.sha256 == expected
    assert header.replayed_from > 0


def test_a_version_without_a_site_is_the_training_that_site_never_joined(
    federation: Federation, tmp_path: Path
) -> None:
    federation.train("north", "south", "west")
    contributed = federation.coordinator.core.derived
    federation.train("south", "north", seed=70)
    contributed.checkpoint()
    federation.train("west", seed=90)
    _, plain = rebuild(federation, federation.version)
    header, without = rebuild(federation, federation.version, "south")
    assert header.replayed_from == 0
    assert list(header.export.without) == ["sites/south"]
    total = contributed.fold("south").sha256
    folded = np.frombuffer(federation.coordinator.core.blobs.contributions.get(total), "<f4")
    assert relative_error(plain - folded, without) < 1e-5
    assert relative_error(plain, without) > 1e-3


def test_without_the_payloads_before_it_an_anchor_that_holds_the_site_is_subtracted_from(
    tmp_path: Path,
) -> None:
    with a_running_federation(tmp_path) as federation:
        federation.train("north", "south", "west")
        job = federation.job(federation.request("south").name)
        job.remove()
        federation.train("north", "west", seed=40)
        _, expected = rebuild(federation, federation.version, "west", "south")
        job.passes()
        job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
        version = federation.version
        # As retention leaves it: nothing before the anchor can be read.
        with federation.coordinator.core.store.write() as uow:
            through = uow.checkpoints.all()[0].entry
            uow.compactions.save(
                Compaction(through, 5, 1000, federation.coordinator.core.clock.now(), True)
            )
            uow.commit()
        header, without = rebuild(federation, version, "west")
        assert header.start_held_site
        assert header.replayed_from == through
        assert relative_error(without, expected) < 1e-5
        with pytest.raises(VersionCompacted, match=f"models/{version} is the oldest") as refused:
            rebuild(federation, 1)
        assert refused.value.facts["oldest_version"] == str(version)


def test_what_an_erasure_destroyed_is_refused_and_what_came_after_the_anchor_is_rebuilt(
    federation: Federation, tmp_path: Path
) -> None:
    federation.train("north")
    before = digest(federation.head)
    federation.train("south", "west", seed=10)
    destroyed = federation.version
    job = federation.job(federation.request("south").name)
    job.remove()
    removed, after = federation.version, digest(federation.head)
    federation.train("north", seed=30)
    job.passes()
    job.certify(SigningKey.load_or_create(tmp_path / "key.pem"))
    federation.train("north", "west", seed=60)
    assert rebuild(federation, 1)[0].sha256 == before
    assert rebuild(federation, federation.version)[0].sha256 == digest(federation.head)
    with pytest.raises(ModelDestroyed, match="was destroyed by erasures/"):
        rebuild(federation, destroyed)
    assert rebuild(federation, removed)[0].sha256 == after  # from the snapshot of the removal
    with federation.coordinator.core.store.write() as uow:
        for checkpoint in uow.checkpoints.all():
            if checkpoint.version == removed:
                uow.checkpoints.remove(checkpoint.entry)
        uow.commit()
    with pytest.raises(ModelDestroyed, match="the payload of row 2 was destroyed by erasures/"):
        rebuild(federation, removed)
    shown = CliRunner().invoke(
        app,
        [
            *("--coordinator", federation.coordinator.address, "models", "rebuild"),
            *("--version", str(destroyed), "--recipient", "auditor"),
            *("--out", str(tmp_path / "gone.safetensors")),
        ],
    )
    assert shown.exit_code == 4
    assert "was destroyed by erasures/" in shown.stderr
    assert not (tmp_path / "gone.safetensors").exists()


def test_what_was_only_suppressed_cannot_be_taken_out_of_a_state_that_holds_it(
    federation: Federation,
) -> None:
    federation.train("north", "south", "north")
    job = federation.job(federation.request("south", method="afu_ic_rebased").name)
    assert not job.remove().subtracted
    federation.train("north", seed=40)
    job.passes()
    core = federation.coordinator.core
    anchor = core.live.position
    federation.train("west", seed=80)
    header, _ = rebuild(federation, federation.version, "south")
    assert not header.start_held_site  # replayed from the first row
    with core.store.write() as uow:
        uow.compactions.save(Compaction(anchor.entry, 0, 0, core.clock.now(), finished=True))
        uow.commit()
    with pytest.raises(ModelDestroyed, match="contributed was destroyed by erasures/"):
        rebuild(federation, federation.version, "south")


def test_a_version_that_carries_a_fenced_site_leaves_only_without_it(
    federation: Federation, tmp_path: Path
) -> None:
    federation.train("north", "south")
    version = federation.version
    rebuild(federation, version, recipient="clinic")
    job = federation.job(federation.request("south").name)
    with pytest.raises(ExportSuspended, match="carries sites/south"):
        rebuild(federation, version)
    rebuild(federation, version, "south", recipient="board")
    rebuild(federation, 1)
    assert [export.recipient for export in exports(federation)] == ["auditor", "board", "clinic"]
    job.remove()
    rebuild(federation, federation.version)
    federation.train("north", seed=30)
    evidence = job.passes()
    carry = [each["recipient"] for each in evidence["exports_that_carry_the_subject"]]
    assert carry == ["clinic"]


def test_what_cannot_be_is_refused_and_nothing_is_recorded(federation: Federation) -> None:
    federation.train("north")
    for version in (-1, 2):
        with pytest.raises(UnknownModelVersion, match="the head is models/1"):
            rebuild(federation, version)
    with pytest.raises(UnknownSite):
        rebuild(federation, 1, "east")
    with pytest.raises(MalformedRequest, match="who takes the copy"):
        rebuild(federation, 1, recipient=" ")
    assert exports(federation) == []


def test_a_corrupt_payload_is_named_by_its_row(federation: Federation) -> None:
    federation.train("north", "south")
    sha256 = json.loads(federation.rows()[2].canonical_json)["payload_sha256"]
    path = next((federation.data / "payloads").rglob(sha256))
    path.chmod(0o600)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(PayloadCorrupt, match="the payload of row 2") as corrupt:
        rebuild(federation, 2)
    assert corrupt.value.facts["entry"] == "2"
    path.unlink()
    with pytest.raises(PayloadCorrupt, match="the payload of row 2"):
        rebuild(federation, 2)
    assert exports(federation) == []


def test_a_repeated_rebuild_is_one_export_and_another_choice_is_refused(
    federation: Federation,
) -> None:
    federation.train("north", "south")
    first, _ = rebuild(federation, 2, request_id="r")
    again, _ = rebuild(federation, 2, request_id="r")
    assert first.export == again.export
    assert len(exports(federation)) == 1
    for version, without in ((2, ["south"]), (1, [])):
        with pytest.raises(RequestAltered):
            rebuild(federation, version, *without, request_id="r")


def test_one_rebuild_at_a_time_and_its_export_is_there_before_a_byte(
    federation: Federation,
) -> None:
    core = federation.coordinator.core
    federation.train("north")
    rebuild_model = RebuildModel(
        core.store, core.blobs, core.live, core.clock, size=core.plan.parameters.size
    )
    asked = Rebuild("r", 1, frozenset(), "auditor", "")
    running = rebuild_model(asked)
    made = next(running)
    assert isinstance(made, Rebuilt)
    assert [export.name for export in exports(federation)] == ["exports/r"]
    with pytest.raises(RebuildRunning):
        next(rebuild_model(asked))
    running.close()
    assert isinstance(next(rebuild_model(asked)), Rebuilt)


def test_the_command_writes_safetensors_in_the_layout_of_the_plan(
    federation: Federation, tmp_path: Path
) -> None:
    federation.train("north", "south")
    out = tmp_path / "out" / "model.safetensors"
    words = ["--coordinator", federation.coordinator.address, "models"]
    asked = ["rebuild", "--version", "2", "--without", "south", "--recipient", "board"]
    result = CliRunner().invoke(app, [*words, *asked, "--out", str(out), "--format", "json"])
    assert result.exit_code == 0, result.output
    layout, values = read_safetensors(out)
    assert layout == federation.client.plan.parameters
    document = json.loads(result.stdout)
    assert document["sha256"] == digest(values)
    assert document["without"] == ["sites/south"]
    assert [path.name for path in out.parent.iterdir()] == ["model.safetensors"]
    again = CliRunner().invoke(app, [*words, *asked, "--out", str(out)])
    assert again.exit_code == 78
    assert "exists" in again.stderr
    plain = CliRunner().invoke(app, [*words, *asked, "--out", str(tmp_path / "b.safetensors")])
    assert "Wrote models/2 without sites/south to" in plain.stdout
    assert "sites/south" in CliRunner().invoke(app, [*words, "exports"]).stdout
