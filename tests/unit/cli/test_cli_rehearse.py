"""Trying a site's own training code out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from letheon.cli.main import app

PLAN = """
name = "rows"
classes = 2
task = "tabular"
model = { plugin = "mlp", arguments = { hidden = [] } }
image = { features = 2 }
training = { local_steps = 4, batch_size = 4 }
"""
CODE = """
import torch
from letheon import site

def fit(model, records, config):
    for rows, labels in site.batches(records, config):
        config.loss(model(rows), labels).backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= config.arguments["rate"] * weight.grad
    {line}
    return {{"loss": 0.5}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    rows = "\n".join(f"{n % 2 + n / 100},{n / 10},{n % 2}" for n in range(20))
    (tmp_path / "rows.csv").write_text(f"a,b,ill\n{rows}\n")
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "agent.toml").write_text(
        f'[data]\nplugin = "tabular_csv"\n'
        f'arguments = {{ path = "{tmp_path}/rows.csv", target = "ill" }}\n'
        f'[training]\ncode = "{tmp_path}/train.py:fit"\ncode_arguments = {{ rate = 0.1 }}\n'
    )
    return tmp_path


def rehearse(site: Path, line: str, *options: str) -> tuple[int, str, str]:
    (site / "train.py").write_text(CODE.format(line=line))
    told = ["rehearse", "--config", str(site / "agent.toml"), "--plan", str(site / "plan.toml")]
    result = CliRunner().invoke(app, [*told, *options])
    return result.exit_code, result.stdout, result.stderr


def test_code_that_agrees_with_itself_is_told_so(site: Path) -> None:
    code, out, _ = rehearse(site, "pass", "--format", "json")
    told = json.loads(out)
    assert code == 0
    assert told["repeatable"] is True
    assert told["num_examples"] == 20
    assert told["metrics"] == {"loss": 0.5}
    assert told["delta_norm"] > 0
    _, out, _ = rehearse(site, "pass")
    assert "2 tensors, a delta of norm" in out
    assert "Repeatable" in out


def test_code_that_does_not_is_told_where_it_differs(site: Path) -> None:
    line = "import os; model[0].bias.data += int.from_bytes(os.urandom(2), 'big')"
    code, out, _ = rehearse(site, line)
    assert code == 1
    assert "first in tensor 0.bias" in out


def test_code_that_fails_shows_its_full_text_here_and_only_here(site: Path) -> None:
    code, _, err = rehearse(site, "raise KeyError('scan-7')")
    assert code == 78
    assert "letheon: the site's training code raised KeyError at train.py:11 in fit." in err
    assert "Traceback" in err
    assert "scan-7" in err
    code, _, err = rehearse(site, "model[0].bias.data[0] = float('nan')")
    assert code == 78
    assert "tensor '0.bias' holds NaN or infinity" in err


def test_what_is_missing_is_named(site: Path) -> None:
    code, _, err = rehearse(site, "pass", "--code", str(site / "other.py"))
    assert (code, "there is no training code" in err) == (78, True)
    (site / "agent.toml").write_text('site = "north"\n')
    code, _, err = rehearse(site, "pass")
    assert (code, "names no data source: [data] plugin" in err) == (78, True)
