"""`letheon up`: a whole federation on this machine, as real processes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Annotated

import typer

from letheon.cli.local.dataset import Dataset, make_synthetic, read_npz
from letheon.cli.local.folder import FederationFolder, Made, read_marker
from letheon.cli.local.preparation import Recipe, prepare
from letheon.cli.local.running import LocalFederation, Pace
from letheon.cli.local.sites_file import SitesFile, prepare_sites, read_sites_file
from letheon.cli.remote import Remote, connect
from letheon.cli.screen import Format, FormatOption, console, print_document
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit.stop_signal import stopped_by_signal
from letheon.v1 import erasures_pb2, federation_pb2

TEND_SECONDS = 0.5
REPORT_SECONDS = 5.0


def up(
    sites: Annotated[int, typer.Option(min=2, max=64, help="How many.")] = 5,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A .npz with train, validation and test images; with --sites-file, a folder."
        ),
    ] = None,
    sites_file: Annotated[
        Path | None, typer.Option(help="TOML: the sites, each with data of its own, and the plan.")
    ] = None,
    synthetic: Annotated[bool, typer.Option("--synthetic", help="Phantoms: no file.")] = False,
    folder: Annotated[
        Path, typer.Option("--dir", help="Everything is kept here; up again goes on from it.")
    ] = Path("letheon-up"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the coordinator.")] = 7300,
    alpha: Annotated[
        float, typer.Option(min=0.01, help="Dirichlet: smaller is more unequal labels.")
    ] = 1.0,
    plan: Annotated[Path | None, typer.Option(help="A plan draft, TOML.")] = None,
    pace: Annotated[
        float, typer.Option(min=0.0, help="Seconds between two local trainings of a site.")
    ] = 1.0,
    agent_start: Annotated[
        float, typer.Option(min=0.0, help="Seconds between the starts of two agents.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and the first weights.")] = 0,
    secure: Annotated[
        bool,
        typer.Option(
            "--secure", help="An authority, TLS on every connection, sites enrolled by tokens."
        ),
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Run Redis, coordinator, calibrator and agents until Ctrl-C; nothing is left running.

    With --format json one document is printed once the federation runs; lines of what happens
    then go to standard error.
    """
    place = FederationFolder(folder)
    recipe = Recipe(sites=sites, alpha=alpha, seed=seed, plan=plan)
    made = read_marker(place)
    if sites_file is not None:
        if synthetic or plan is not None:
            raise BadConfig("--sites-file names data and plan: leave --synthetic and --plan out")
        made = _of_sites_file(place, read_sites_file(sites_file, data), made, seed, output)
    elif made is None:
        dataset = _dataset(data, synthetic=synthetic, seed=seed)
        _say(output, f"preparing {sites} sites from {dataset.name} in {folder}")
        made = prepare(place, dataset, recipe)
    else:
        _check_same(made, sites, folder)
        _say(output, f"going on with the federation in {folder}: {made.data}, {sites} sites")
    federation = LocalFederation(
        place,
        made.sites,
        port=port,
        pace=Pace(pace),
        agent_start_s=agent_start,
        secure=secure,
        say=lambda line: _say(output, line),
    )
    _run(federation, output)


def _of_sites_file(
    place: FederationFolder, told: SitesFile, made: Made | None, seed: int, output: Format
) -> Made:
    if made is None:
        _say(output, f"preparing {len(told.agents)} sites of {told.path} in {place.root}")
        return prepare_sites(place, told, seed)
    if set(made.sites) != set(told.agents):
        raise BadConfig(
            f"{place.root} holds a federation of {', '.join(made.sites)}, and {told.path} names "
            "other sites: choose another --dir"
        )
    _say(output, f"going on with the federation in {place.root}: {', '.join(made.sites)}")
    return made


def _run(federation: LocalFederation, output: Format) -> None:
    with stopped_by_signal() as stopped:
        try:
            with federation:
                _announce(federation, output)
                _watch(federation, stopped, output)
                _say(output, "stopping")
        finally:
            federation.stop()
    _say(output, f"stopped; logs are in {federation.folder.logs}")


def _dataset(data: Path | None, *, synthetic: bool, seed: int) -> Dataset:
    if synthetic == (data is not None):
        raise BadConfig("give either --data FILE or --synthetic")
    return read_npz(data) if data is not None else make_synthetic(seed)


def _check_same(made: Made, sites: int, folder: Path) -> None:
    if len(made.sites) != sites:
        raise BadConfig(
            f"{folder} holds a federation of {len(made.sites)} sites, not {sites}; "
            f"give --sites {len(made.sites)} to go on with it, or another --dir"
        )


def _say(output: Format, line: str) -> None:
    stamp = time.strftime("%H:%M:%S")
    console(stderr=output is Format.JSON).print(f"{stamp}  {line}", markup=False)


def _announce(federation: LocalFederation, output: Format) -> None:
    if output is Format.JSON:
        print_document(
            {
                "coordinator": str(federation.address),
                "identity": str(federation.secure.identity()) if federation.secure else None,
                "dir": str(federation.folder.root),
                "logs": str(federation.folder.logs),
                "sites": list(federation.sites),
                "metrics": dict(federation.metrics),
            }
        )
    _say(output, f"coordinator at {federation.address}, {len(federation.sites)} agents, "
         f"logs in {federation.folder.logs}; Ctrl-C stops all of it")  # fmt: skip
    if federation.secure is not None:
        _say(output, f"show who you are: letheon --identity {federation.secure.identity()} ...")
    _say(output, f"metrics of each process: {federation.folder.prometheus} names the pages")


def _watch(federation: LocalFederation, stopped: threading.Event, output: Format) -> None:
    report = _Report(output)
    due = time.monotonic()
    with connect(federation.address) as remote:
        while not stopped.wait(TEND_SECONDS):
            federation.tend()
            if time.monotonic() >= due:
                due = time.monotonic() + REPORT_SECONDS
                report.tell(remote)


class _Report:
    """Lines of what changed since the last look."""

    def __init__(self, output: Format) -> None:
        self._output = output
        self._version: int | None = None
        self._states: dict[str, int] = {}
        self._trouble = ""

    def tell(self, remote: Remote) -> None:
        """Asks once; a coordinator that is being restarted is asked again next time."""
        try:
            status = remote.federation.GetFederation(
                federation_pb2.GetFederationRequest(), timeout=5.0
            )
            erasures = remote.erasures.ListErasures(
                erasures_pb2.ListErasuresRequest(), timeout=5.0
            ).erasures
        except LetheonError as error:
            if error.message != self._trouble:
                _say(self._output, f"where the federation stands is unknown: {error.message}")
            self._trouble = error.message
            return
        self._trouble = ""
        if status.head_version != self._version:
            self._version = status.head_version
            accepted = status.updates.get("accepted", 0)
            _say(
                self._output,
                f"version {status.head_version}, epoch {status.epoch}, {accepted} deltas accepted",
            )
        for erasure in erasures:
            if self._states.get(erasure.name) != erasure.state:
                self._states[erasure.name] = erasure.state
                state = erasures_pb2.Erasure.State.Name(erasure.state)
                _say(self._output, f"{erasure.name} of {erasure.site}: {state}")
