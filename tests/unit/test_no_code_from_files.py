"""Nothing that we ship reads a pickle, nor a file of torch that could hold one."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("letheon", "coordinator", "client_agent", "calibrator", "benchmarks", "examples")
FORBIDDEN = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def offences(code: str) -> list[str]:
    """What in the code may run code from a file."""
    found: list[str] = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in FORBIDDEN else []
            found += [f"{module}.load" for a in node.names if (module, a.name) == ("torch", "load")]
        elif isinstance(node, ast.Call):
            found += _call(node)
    return found


def _call(node: ast.Call) -> list[str]:
    name = ast.unparse(node.func)
    told = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if name in ("torch.load", "torch.serialization.load"):
        return [] if told.get("weights_only") == "True" else [name]
    if name in ("np.load", "numpy.load"):
        return [name] if told.get("allow_pickle", "False") != "False" else []
    return [name] if name.endswith(".read_pickle") else []


def test_no_shipped_file_reads_a_pickle() -> None:
    files = [path for folder in SHIPPED for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 300
    found = {str(path.relative_to(ROOT)): offences(path.read_text("utf-8")) for path in files}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "from torch import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
    ],
)
def test_the_rule_sees_what_it_forbids(code: str) -> None:
    assert offences(code)


@pytest.mark.parametrize("code", ["torch.load(p, weights_only=True)", "np.load(p)", "import json"])
def test_the_rule_lets_the_rest_be(code: str) -> None:
    assert not offences(code)
