"""Validates objects: built-in kinds by the schemas of Kubernetes, others by their operators'."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from .rendering import ROOT, Document, name_of

KUBERNETES = ("1.30", "1.37")  # the oldest the chart names, and the newest with schemas here
CRDS = ROOT / "deploy" / "helm" / "crds"
_BUILT_IN = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1")


def is_custom(document: Document) -> bool:
    """Whether the kind comes with an operator."""
    return document["apiVersion"] not in _BUILT_IN


def missing_tools() -> str | None:
    """What is not installed that validation needs; None: nothing."""
    if shutil.which("node") is None:
        return "node is not installed (make system-deps)"
    if not (CRDS / "node_modules").is_dir():
        return "the schemas of custom resources are not installed (make chart)"
    return None


def problems(documents: Sequence[Document]) -> list[str]:
    """One sentence for each object that breaks a schema."""
    built_in = [each for each in documents if not is_custom(each)]
    custom = [each for each in documents if is_custom(each)]
    return [*_of_built_in(built_in), *_of_custom(custom)]


def _of_built_in(documents: Sequence[Document]) -> list[str]:
    import kubernetes_validate

    found = []
    for document in documents:
        for version in KUBERNETES:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                found.append(f"{name_of(document)} (Kubernetes {version}): {_where(error)}")
    return found


def _where(error: Any) -> str:
    place = ".".join(str(part) for part in error.path)
    return f"{place}: {error.message}"


def _of_custom(documents: Sequence[Document]) -> list[str]:
    if not documents:
        return []
    done = subprocess.run(
        ["node", CRDS / "validate.mjs"],
        input=json.dumps(documents),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answers: list[str] = json.loads(done.stdout)
    return [
        f"{name_of(document)}: {answer}"
        for document, answer in zip(documents, answers, strict=True)
        if answer
    ]
