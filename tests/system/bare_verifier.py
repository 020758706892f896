"""A certificate is checked in a fresh environment that holds `cryptography` and nothing else.

Run by `make check-verifier`; needs a package index, so it is no part of the tests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from logged_certificates import Logged, some_signers  # noqa: E402

_MAY_BE_THERE = {"pip", "setuptools", "letheon", "cryptography", "cffi", "pycparser"}


def main() -> int:
    """0 if the small verifier accepts a good file and refuses a damaged one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "venv", with_pip=True)
        python = folder / "venv" / "bin" / "python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "cryptography"], check=True)
        subprocess.run([*install, "--no-deps", ROOT], check=True)
        found = subprocess.run(
            [python, "-m", "pip", "list", "--format=freeze"], check=True, stdout=subprocess.PIPE
        )
        packages = {line.partition("==")[0] for line in found.stdout.decode().split()}
        if packages - _MAY_BE_THERE:
            print(f"more is installed than a verifier needs: {packages - _MAY_BE_THERE}")
            return 1
        return _check(folder)


def _check(folder: Path) -> int:
    signers = some_signers(folder)
    signers.calibrator.publish(folder / "key.pub.pem")
    signers.coordinator.publish(folder / "log.pub.pem")
    good, bad = folder / "certificate.json", folder / "damaged.json"
    good.write_bytes(Logged(signers, amended=True).file())
    bad.write_bytes(good.read_bytes().replace(b'"level":"L1"', b'"level":"L0"', 1))
    keys = ["--key", folder / "key.pub.pem", "--log-key", folder / "log.pub.pem"]
    scripts = folder / "venv" / "bin"
    if len(sys.argv) > 1:  # what a demo left
        demo = Path(sys.argv[1])
        real = [
            "--key",
            demo / "signing_key.pub.pem",
            "--log-key",
            demo / "coordinator_key.pub.pem",
        ]
        command = [scripts / "letheon-verify", demo / "certificate.json", *real]
        if subprocess.run(command, check=False).returncode != 0:
            print(f"the certificate in {demo} does not hold")
            return 1
    for command in (
        [scripts / "letheon-verify"],
        [scripts / "letheon", "certificate", "verify"],
    ):
        for file, due in ((good, 0), (bad, 1)):
            done = subprocess.run([*command, file, *keys], check=False)
            if done.returncode != due:
                print(f"{command[0].name} answered {done.returncode} for {file.name}, not {due}")
                return 1
    print("A certificate is checked with cryptography alone.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
