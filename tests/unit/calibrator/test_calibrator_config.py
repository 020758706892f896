import json
import sys

import pytest

from calibrator.__main__ import main
from calibrator.adapters.unequipped_laboratory import UnequippedLaboratory
from calibrator.bootstrap import build_laboratory, build_method, close_unless_used
from calibrator.config import CalibratorConfig
from calibrator.services.images import Images
from letheon.errors import BadConfig, UnknownPlugin
from letheon.servicekit.config import effective, load

SMALLEST = """
coordinator = "127.0.0.1:7443"
redis_url = "redis://:hush@127.0.0.1:6379/0"
name = "calibrator-1"
state_dir = "/var/lib/letheon-calibrator"
"""


def read(tmp_path, more="", environ=None) -> CalibratorConfig:
    path = tmp_path / "calibrator.toml"
    path.write_text(SMALLEST + more)
    return load(path, CalibratorConfig, environ or {})


def test_the_smallest_configuration_is_enough(tmp_path):
    config = read(tmp_path)
    assert config.key_path == config.state_dir / "signing_key.pem"
    assert config.audit is None


def test_the_password_of_the_queue_is_never_logged(tmp_path):
    assert "hush" not in json.dumps(effective(read(tmp_path)))
    assert "hush" not in repr(read(tmp_path))


def test_an_unknown_key_is_refused_with_the_valid_ones(tmp_path):
    with pytest.raises(BadConfig, match="poll_seconds"):
        read(tmp_path, "pol_seconds = 2.0\n")


def test_the_environment_overrides_the_file(tmp_path):
    assert read(tmp_path, environ={"LETHEON_MAX_JOBS": "9"}).max_jobs == 9


def test_arguments_of_methods_come_from_the_configuration(tmp_path):
    config = read(tmp_path, "[methods.afu_ic_rebased]\ntarget_timeout_seconds = 5.0\n")
    assert build_method(config, "afu_ic_rebased").target_timeout_seconds == 5.0
    assert build_method(config, "removal").offer.name == "removal"
    with pytest.raises(UnknownPlugin):
        build_method(config, "wishing")
    with pytest.raises(BadConfig):
        build_method(read(tmp_path, "[methods.removal]\nspeed = 1\n"), "removal")


def test_a_calibrator_without_images_needs_no_network():
    laboratory = build_laboratory(None, Images(None, None), 1)
    assert isinstance(laboratory, UnequippedLaboratory)
    assert laboratory.try_patch(None, None, (), 0.1).unequipped
    assert laboratory.calibrate(None, {}, seed=0, cap_norm=1.0, allowed_drop=0.1).unequipped


@pytest.mark.parametrize("more", ["pol_seconds = 2.0\n", "[audit]\nplugin = 'wishing'\n"])
def test_a_configuration_that_cannot_work_ends_with_exit_code_78(tmp_path, monkeypatch, more):
    path = tmp_path / "calibrator.toml"
    path.write_text(SMALLEST.replace("/var/lib", str(tmp_path)) + more)
    monkeypatch.setattr(sys, "argv", ["letheon-calibrator", "--config", str(path)])
    assert main() == 78


def test_by_default_many_erasures_are_in_hand_at_once(tmp_path):
    assert read(tmp_path).max_jobs == 64


class AtWork:
    """A worker, idle or not, and a channel that notes whether it was closed."""

    def __init__(self, idle: bool) -> None:
        self.idle, self.closed = idle, False

    def join(self, grace_s: float) -> bool:
        return self.idle

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("idle", [True, False])
def test_a_channel_is_never_closed_under_a_job_at_work(idle):
    channel = AtWork(idle)
    close_unless_used(channel, [AtWork(True), channel])
    assert channel.closed is idle
