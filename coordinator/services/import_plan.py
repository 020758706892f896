"""Imports the plan and the initial weights as version 0, on the first start."""

from __future__ import annotations

from pathlib import Path

from coordinator.domain.model import Checkpoint, FederationRow, ModelFile
from coordinator.ports import Blobs, IdMaker, Store
from coordinator.services.keep_derived import vector_bytes
from letheon.errors import BadConfig, BadData
from letheon.federation.ledger import EntryKind, seal
from letheon.federation.parameters import read_safetensors
from letheon.federation.plan import Plan
from letheon.servicekit.clock import Clock

PLAN_FILE = "plan.json"
WEIGHTS_FILE = "initial.safetensors"


def read_plan(directory: Path) -> Plan:
    """The plan of a federation's folder. Raises BadConfig."""
    path = directory / PLAN_FILE
    try:
        return Plan.from_canonical(path.read_bytes())
    except OSError as error:
        raise BadConfig(
            f"the plan {path} cannot be read ({error.strerror}): "
            "`letheon federation init` writes one"
        ) from error


def import_plan(
    store: Store, blobs: Blobs, clock: Clock, new_id: IdMaker, *, directory: Path | None
) -> Plan:
    """The plan of this coordinator; on the first start, from the folder, with version 0.

    Raises BadConfig if there is none, or if the folder holds another plan than the one that was
    imported: a federation keeps its plan for life.
    """
    with store.read() as uow:
        row = uow.federation.find()
    if row is not None:
        known = Plan.from_canonical(row.plan_json.encode())
        if directory is not None and (directory / PLAN_FILE).exists():
            offered = read_plan(directory)
            if offered.digest != known.digest:
                raise BadConfig(
                    f"{directory / PLAN_FILE} is plan {offered.digest[:12]}, the database holds "
                    f"plan {known.digest[:12]}: start with the old plan, or with an empty data_dir"
                )
        return known
    if directory is None:
        raise BadConfig("federation_dir is not set, and the database holds no plan yet")
    plan = read_plan(directory)
    _import(store, blobs, clock, new_id, plan, directory / WEIGHTS_FILE)
    return plan


def _import(
    store: Store, blobs: Blobs, clock: Clock, new_id: IdMaker, plan: Plan, weights_file: Path
) -> None:
    try:
        layout, weights = read_safetensors(weights_file)
    except BadData as error:
        raise BadConfig(f"the initial weights: {error.message}") from error
    if layout != plan.parameters:
        raise BadConfig(f"{weights_file} holds other tensors than its plan names")
    now = clock.now()
    data = vector_bytes(weights)
    payload = blobs.payloads.put(data)
    blobs.checkpoints.put(data)
    blobs.models.put(data)
    entry = seal(
        None,
        kind=EntryKind.INITIAL,
        version=0,
        epoch=0,
        at=now,
        payload_sha256=payload,
        payload_bytes=len(data),
        encoding="float32",
        details={"plan": plan.digest},
    )
    with store.write() as uow:
        uow.entries.add(entry)
        uow.checkpoints.add(Checkpoint(entry.entry, 0, 0, payload, now))
        uow.federation.add(
            FederationRow(
                id=new_id(),
                plan_digest=plan.digest,
                plan_json=plan.canonical_json().decode(),
                serving_version=0,
                withheld_version=None,
                serving_carries_subject=False,
                candidate_version=None,
                candidate_since=None,
                last_advance_entry=entry.entry,
            )
        )
        uow.models.add(ModelFile(0, 0, payload, len(data), now))
        uow.models.pin(0, "serving")
        uow.commit()
