from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from letheon.errors import BadConfig
from letheon.servicekit.config import Section, effective, load

WriteFile = Callable[[str], Path]


class Gate(Section):
    every: int = 8
    margin: float = 0.05


class Source(Section):
    plugin: str
    arguments: Mapping[str, object] = Field(default_factory=dict)


class ServiceConfig(Section):
    listen: str = "127.0.0.1:0"
    state: Path = Path("state")
    token: SecretStr | None = None
    sites: tuple[str, ...] = ()
    gate: Gate = Gate()
    source: Source | None = None


@pytest.fixture
def file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "service.toml"
        path.write_text(text)
        return path

    return write


def test_a_file_fills_the_model_and_defaults_the_rest(file: WriteFile) -> None:
    config = load(file('listen = "0.0.0.0:1"\n[gate]\nevery = 3\n'), ServiceConfig, {})
    assert (config.listen, config.gate.every, config.gate.margin) == ("0.0.0.0:1", 3, 0.05)


def test_without_a_file_defaults_and_the_environment_count() -> None:
    assert load(None, ServiceConfig, {"LETHEON_GATE__EVERY": "5"}).gate.every == 5


def test_an_unknown_key_is_refused_naming_the_valid_ones(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match=r"gate\.evry.*valid here: every, margin.*mean every") as e:
        load(file("[gate]\nevry = 3\n"), ServiceConfig, {})
    assert e.value.facts["key"] == "gate.evry"


def test_an_unknown_key_of_the_top_table_names_the_tables(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match="gate, listen, sites, source, state, token"):
        load(file("port = 3\n"), ServiceConfig, {})


def test_an_unknown_key_of_an_optional_table_names_its_keys(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match="valid here: arguments, plugin"):
        load(file('[source]\nplugin = "npz"\npath = "x"\n'), ServiceConfig, {})


def test_a_wrong_type_names_the_key_and_the_rule(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match=r"gate\.every: input should be a valid integer"):
        load(file('[gate]\nevery = "often"\n'), ServiceConfig, {})


def test_a_missing_key_is_named(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match=r"source\.plugin: is required and missing"):
        load(file("[source]\n"), ServiceConfig, {})


def test_all_broken_rules_are_told_at_once(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match=r"gate\.every.*gate\.margin"):
        load(file('[gate]\nevery = "a"\nmargin = "b"\n'), ServiceConfig, {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match=r"no configuration file .*absent\.toml"):
        load(tmp_path / "absent.toml", ServiceConfig, {})


def test_broken_toml_says_where(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match=r"not valid TOML.*line 1"):
        load(file("listen = \n"), ServiceConfig, {})


def test_a_folder_in_place_of_a_file_is_a_bad_config(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read"):
        load(tmp_path, ServiceConfig, {})


def test_the_environment_beats_the_file(file: WriteFile) -> None:
    path = file("[gate]\nevery = 3\n")
    assert load(path, ServiceConfig, {"LETHEON_GATE__EVERY": "4"}).gate.every == 4


def test_a_variable_is_read_as_toml_if_it_is_toml_and_else_as_text() -> None:
    config = load(
        None,
        ServiceConfig,
        {"LETHEON_SITES": '["a", "b"]', "LETHEON_LISTEN": "localhost:7", "LETHEON_STATE": "7"},
    )
    assert config.sites == ("a", "b")
    assert config.listen == "localhost:7"
    assert config.state == Path("7")


def test_a_text_field_takes_a_variable_that_looks_like_a_number() -> None:
    config = load(None, ServiceConfig, {"LETHEON_SOURCE__PLUGIN": "12"})
    assert config.source == Source(plugin="12")


def test_a_variable_cannot_smuggle_in_other_keys() -> None:
    assert load(None, ServiceConfig, {"LETHEON_LISTEN": '1\nstate = "x"'}).state == Path("state")


def test_an_unknown_nested_variable_is_refused_by_its_name() -> None:
    with pytest.raises(BadConfig, match="LETHEON_GATE__EVRY"):
        load(None, ServiceConfig, {"LETHEON_GATE__EVRY": "4"})


def test_a_variable_of_another_program_is_left_alone() -> None:
    load(None, ServiceConfig, {"LETHEON_COORDINATOR_PORT": "tcp://10.0.0.1:50051", "HOME": "/"})


def test_a_variable_below_a_plain_value_is_refused() -> None:
    with pytest.raises(BadConfig, match="no table"):
        load(None, ServiceConfig, {"LETHEON_LISTEN": "a:1", "LETHEON_LISTEN__PORT": "4"})


def test_the_effective_configuration_masks_secrets() -> None:
    config = load(None, ServiceConfig, {"LETHEON_TOKEN": "s3cret"})
    assert "s3cret" not in str(effective(config))


def test_a_variable_that_names_a_table_and_holds_none_is_left_alone(file: WriteFile) -> None:
    text = '[source]\nplugin = "npz"\n'
    for name in ("LETHEON_SOURCE", "LETHEON_GATE"):
        config = load(file(text), ServiceConfig, {name: "/srv/images"})
        assert config.source is not None
        assert (config.source.plugin, config.gate.every) == ("npz", 8)
    told = load(file(text), ServiceConfig, {"LETHEON_GATE": "{ every = 3 }"})
    assert told.gate.every == 3


def test_lists_without_end_are_no_configuration(file: WriteFile) -> None:
    with pytest.raises(BadConfig, match="is not valid TOML"):
        load(file("x = " + "[" * 3000), ServiceConfig, {})


def test_a_variable_of_bytes_that_are_no_text_is_refused_by_its_name() -> None:
    with pytest.raises(BadConfig, match="LETHEON_LISTEN"):
        load(None, ServiceConfig, {"LETHEON_LISTEN": "x\udcff"})
