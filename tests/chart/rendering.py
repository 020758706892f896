"""The chart as Helm renders it, without a cluster and without the helm program."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "letheon"
RELEASE, NAMESPACE = "trial", "hospitals"

Document = dict[str, Any]
_PODS = ("Deployment", "Job", "Pod")


def helm() -> Any:
    """The library of Helm; `make setup` installs it."""
    import helm_python

    return helm_python


def matrix() -> dict[str, Document]:
    """The files of values that the chart is checked with, by name."""
    return {
        path.stem: yaml.safe_load(path.read_text())
        for path in sorted((CHART / "ci").glob("*.yaml"))
    }


def overlaid(base: Document, *keys: str, value: object) -> Document:
    """A copy of the values with one of them set."""
    copy = deepcopy(base)
    table = copy
    for key in keys[:-1]:
        table = table.setdefault(key, {})
    table[keys[-1]] = value
    return copy


def render(values: Document) -> list[Document]:
    """Every object that an installation with these values would make, hooks and tests included.

    Raises HelmError with the sentence of the template that refuses them.
    """
    with helm().Chart.load(CHART) as chart:
        files = chart.render(values, name=RELEASE, namespace=NAMESPACE, is_install=True)
    return [each for name, text in files.items() if name.endswith(".yaml") for each in _parse(text)]


def _parse(text: str) -> Iterator[Document]:
    for document in yaml.load_all(text, Loader=_NoDuplicates):
        if document:
            yield document


class _NoDuplicates(yaml.SafeLoader):
    """Refuses a key that stands twice in one table: the API server would keep only one."""


def _mapping(loader: _NoDuplicates, node: yaml.MappingNode) -> Document:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    twice = sorted({str(key) for key in keys if keys.count(key) > 1})
    if twice:
        raise yaml.constructor.ConstructorError(
            None, None, f"the key {', '.join(twice)} stands twice", node.start_mark
        )
    pairs: Document = {
        key: loader.construct_object(value, deep=True)
        for key, (_, value) in zip(keys, node.value, strict=True)
    }
    return pairs


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def lint(values: Document) -> list[str]:
    """What `helm lint --strict` has against the chart with these values, schema included."""
    report = helm().lint(CHART, values, strict=True, namespace=NAMESPACE)
    said = [
        f"{each['path']}: {each['error']}" for each in report["messages"] if each["severity"] > 1
    ]
    return [*said, *report["errors"]]


def name_of(document: Document) -> str:
    """Kind and name, as people say it."""
    return f"{document['kind']} {document['metadata']['name']}"


def one(documents: list[Document], kind: str, name: str) -> Document:
    """The one object of that kind and name."""
    found = [
        each
        for each in documents
        if each["kind"] == kind and each["metadata"]["name"] == f"{RELEASE}-letheon-{name}"
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def pods(documents: list[Document]) -> Iterator[tuple[str, Document, Document]]:
    """Name, labels and spec of each pod."""
    for document in documents:
        if document["kind"] == "Pod":
            yield name_of(document), document["metadata"]["labels"], document["spec"]
        elif document["kind"] in _PODS:
            template = document["spec"]["template"]
            yield name_of(document), template["metadata"]["labels"], template["spec"]


def toml_of(documents: list[Document], service: str) -> str:
    """The configuration of a service."""
    return str(one(documents, "ConfigMap", service)["data"][f"{service}.toml"])


def chosen(labels: Document, selector: Document) -> bool:
    """Whether a selector takes what has these labels."""
    return selector.items() <= labels.items()
