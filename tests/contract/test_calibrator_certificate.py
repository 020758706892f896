"""A calibrator renews its own certificate while it runs, as an agent does."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from secure_coordinator import Secured, a_secure_coordinator

from calibrator.bootstrap import run
from calibrator.config import CalibratorConfig
from letheon.servicekit.caller import Role
from letheon.servicekit.identity import identity_of, serial_of
from letheon.servicekit.route import certificates_in

_LOOKS, _PAUSE_S = 600, 0.05


def test_a_calibrator_has_its_next_certificate_signed_without_a_restart(tmp_path: Path) -> None:
    with a_secure_coordinator(tmp_path) as secured:
        _renews(secured, tmp_path)


def _renews(secured: Secured, tmp_path: Path) -> None:
    # More than two thirds of its life are over.
    before = datetime.now(UTC) - timedelta(days=2.5)
    place = secured.identity(Role.CALIBRATOR, "calibrator-1", life=timedelta(days=3), now=before)
    certificate, key = place / "certificate.pem", place / "key.pem"
    first, private = certificates_in(certificate, "certificate")[0], key.read_bytes()
    config = CalibratorConfig.model_validate(
        {
            "coordinator": secured.address,
            "redis_url": "redis://127.0.0.1:1/0",
            "name": "calibrator-1",
            "state_dir": tmp_path / "calibrator",
            "signing_key": tmp_path / "signing_key.pem",
            "tls": {"ca": place / "ca.pem", "certificate": certificate, "key": key, "renew": True},
        }
    )
    stop, pause = threading.Event(), threading.Event()
    thread = threading.Thread(target=run, args=(config, stop))
    thread.start()
    try:
        for _ in range(_LOOKS):
            own = certificates_in(certificate, "certificate")[0]
            if serial_of(own) != serial_of(first):
                break
            pause.wait(_PAUSE_S)
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert serial_of(own) != serial_of(first)
    assert identity_of(own).uri == "letheon://chest/role/calibrator/calibrator-1"
    assert own.not_valid_after_utc > first.not_valid_after_utc
    assert key.read_bytes() == private
