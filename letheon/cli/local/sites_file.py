"""A local federation whose sites each have data of their own: `letheon up --sites-file FILE`.

    plan = "plan.toml"              # beside this file; or the draft itself as a table [plan]

    [agent]                         # what every site's agent.toml says
    control_share = 0.15
    [agent.data]
    plugin = "tabular_csv"

    [sites.cleveland.data.arguments]   # and what one site's says besides
    path = "{data}/heart_disease/processed.cleveland.data"

    [calibrator.audit]              # what calibrator.toml says besides; may be left out
    plugin = "npz"
    arguments = { path = "{here}/audit.npz" }

`{data}` is the folder given by --data or LETHEON_DATA, `{here}` the folder of this file.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from letheon.cli.local.folder import FederationFolder, Made, write_marker
from letheon.cli.local.preparation import initialise
from letheon.cli.local.toml_text import toml_text
from letheon.errors import BadConfig, MalformedName
from letheon.federation.plan import load_plan
from letheon.names import site_name

Table = dict[str, Any]

_KEYS = {"plan", "agent", "sites", "calibrator"}


@dataclass(frozen=True)
class SitesFile:
    """Read and checked, placeholders filled in."""

    path: Path
    plan: Path | Table
    agents: Mapping[str, Table]  # by site, keys of its agent.toml
    calibrator: Table  # keys of calibrator.toml


def read_sites_file(path: Path, data: Path | None) -> SitesFile:
    """Reads the file; `data` is the folder that {data} stands for.

    Raises BadConfig naming the key and what is wanted.
    """
    content = _toml(path)
    if unknown := sorted(content.keys() - _KEYS):
        raise BadConfig(f"{path}: unknown key {unknown[0]!r}; valid: {', '.join(sorted(_KEYS))}")
    content = _filled(content, _places(path, content, data))
    sites = content.get("sites", {})
    if not isinstance(sites, dict) or len(sites) < 2:
        raise BadConfig(f"{path}: a federation has two sites or more, one table [sites.NAME] each")
    shared = content.get("agent", {})
    for site in sites:
        _check_name(path, site)
    plan = content.get("plan")
    if not isinstance(plan, str | dict):
        raise BadConfig(f"{path}: plan is the name of a plan draft, or the draft as a table [plan]")
    return SitesFile(
        path=path,
        plan=path.parent / plan if isinstance(plan, str) else plan,
        agents={site: _merged(shared, own) for site, own in sites.items()},
        calibrator=content.get("calibrator", {}),
    )


def prepare_sites(folder: FederationFolder, told: SitesFile, seed: int) -> Made:
    """Writes plan, initial weights and what each site's configuration says, the marker last.

    Raises BadConfig or UnknownPlugin for a plan that cannot be built.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    if isinstance(told.plan, Path):
        load_plan(told.plan)
        folder.draft.write_bytes(told.plan.read_bytes())
    else:
        folder.draft.write_text(toml_text(told.plan), encoding="utf-8")
        load_plan(folder.draft)
    initialise(folder, seed)
    for site, settings in told.agents.items():
        _keep(folder.own_settings(folder.site(site)), settings)
    _keep(folder.own_settings(folder.calibrator), told.calibrator)
    made = Made(tuple(told.agents), told.path.parent.name or told.path.stem, seed, alpha=0.0)
    write_marker(folder, made)
    return made


def _toml(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise BadConfig(f"the sites file {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadConfig(f"the sites file {path} is no TOML: {error}") from error


def _places(path: Path, content: Table, data: Path | None) -> dict[str, str]:
    places = {"{here}": str(path.parent.absolute())}
    data = data or (Path(os.environ["LETHEON_DATA"]) if "LETHEON_DATA" in os.environ else None)
    if "{data}" in json.dumps(content, default=str):
        if data is None:
            raise BadConfig(f"{path} speaks of {{data}}: give --data FOLDER or set LETHEON_DATA")
        if not data.is_dir():
            raise BadConfig(f"{path} speaks of {{data}}, and there is no folder {data}")
        places["{data}"] = str(data.absolute())
    return places


def _filled(value: Any, places: Mapping[str, str]) -> Any:  # noqa: ANN401 - any TOML value
    if isinstance(value, str):
        for mark, place in places.items():
            value = value.replace(mark, place)
        return value
    if isinstance(value, dict):
        return {key: _filled(each, places) for key, each in value.items()}
    return [_filled(each, places) for each in value] if isinstance(value, list) else value


def _check_name(path: Path, site: str) -> None:
    try:
        site_name(site)
    except MalformedName as error:
        raise BadConfig(f"{path}: {error.message}") from error


def _merged(shared: Any, own: Any) -> Any:  # noqa: ANN401 - any TOML value
    """`own` over `shared`, table by table."""
    if not isinstance(shared, dict) or not isinstance(own, dict):
        return own
    return {**shared, **{key: _merged(shared.get(key), value) for key, value in own.items()}}


def _keep(path: Path, settings: Table) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2, default=str) + "\n", encoding="utf-8")
