"""What the compose file's own container does to make certificates, done here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from letheon.servicekit.identity_folder import files_in

pytestmark = pytest.mark.system

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_demo_makes_a_certificate_for_everybody_once(tmp_path: Path) -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    (script,) = services["certificates"]["command"]
    # As compose does it: $$ is a dollar. The folder is this test's.
    script = script.replace("$$", "$").replace("/var/lib/letheon", str(tmp_path))
    command = tmp_path / "bin" / "letheon"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m letheon.cli "$@"\n')
    command.chmod(0o755)
    environ = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}

    def run() -> None:
        done = subprocess.run(
            ["sh", "-euc", script], env=environ, capture_output=True, text=True, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr

    run()
    who = {}
    for name in ("coordinator", "calibrator", "north", "south", "east", "operator"):
        files = files_in(tmp_path / name)
        assert files.certificate is not None
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        who[name] = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert who["north"] == ["letheon://demo/site/north"]
    assert who["calibrator"] == ["letheon://demo/role/calibrator/calibrator-1"]
    assert who["operator"] == ["letheon://demo/role/operator/demo"]
    before = (tmp_path / "operator" / "certificate.pem").read_bytes()
    run()
    assert (tmp_path / "operator" / "certificate.pem").read_bytes() == before
