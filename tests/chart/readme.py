"""README.md of the chart: its table of values comes from values.schema.json and values.yaml."""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml

from .rendering import CHART, Document

README = CHART / "README.md"
_HEAD = """# Letheon on Kubernetes

Installs the coordinator and the calibrator; agents run at the hospitals. What to prepare, how big
to make it, upgrades, backups and what to do when it breaks:
[docs/operations](../../../docs/operations/README.md).

    helm install federation deploy/helm/letheon --namespace letheon --values my-values.yaml
    helm test federation --namespace letheon

[ci/](ci) holds files of values to begin with: `sqlite.yaml` (one coordinator and its volume),
`postgresql.yaml` (a standby, S3, cert-manager, alerts and dashboards), `keda.yaml`, `gateway.yaml`,
`minimal.yaml` and `demo.yaml` (a trial that needs a plan and certificates). `make chart` lints,
renders and validates the chart with each of them.

## Values

This table is generated (`make chart` writes it, a test compares it).

| key | default | meaning |
|---|---|---|
"""


def readme() -> str:
    """The whole text."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    return _HEAD + "".join(_rows(schema["properties"], values, ""))


def leaves(properties: Document, prefix: str = "") -> Iterator[tuple[str, Document]]:
    """Dotted key and schema of everything that is no table of known keys."""
    for key, schema in properties.items():
        if "properties" in schema:
            yield from leaves(schema["properties"], f"{prefix}{key}.")
        else:
            yield prefix + key, schema


def default_of(values: Document, key: str) -> object:
    """What values.yaml says. Raises KeyError if it has no such key."""
    found: object = values
    for part in key.split("."):
        if not isinstance(found, dict):
            raise KeyError(key)
        found = found[part]
    return found


def _rows(properties: Document, values: Document, prefix: str) -> Iterator[str]:
    for key, schema in leaves(properties, prefix):
        if key == "global":
            continue
        meaning = schema["description"]
        if "enum" in schema:
            meaning += f" One of {', '.join(f'`{each}`' for each in schema['enum'])}."
        yield f"| `{key}` | `{json.dumps(default_of(values, key))}` | {meaning} |\n"
