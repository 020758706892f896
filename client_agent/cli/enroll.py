"""letheon-agent enroll"""

from __future__ import annotations

import tomllib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption
from letheon.cli.screen import Format, FormatOption, JsonValue, print_document, say, size_text
from letheon.errors import AlreadyExists, BadConfig, MalformedRequest

if TYPE_CHECKING:
    from client_agent.config import AgentConfig
    from client_agent.enrolment import Enrolment

_FILE = {"exists": True, "dir_okay": False, "resolve_path": True}


def enroll(
    config: ConfigOption = DEFAULT_CONFIG,
    coordinator: Annotated[
        str, typer.Option(metavar="HOST[:PORT]", help="Port 443 if none is given.")
    ] = "",
    site: Annotated[str, typer.Option(help="Lower-case letters, digits and dashes.")] = "",
    display_name: Annotated[str, typer.Option(help="Shown to people.")] = "",
    state_dir: Annotated[
        Path, typer.Option(help="Private to this agent; made if it is missing.")
    ] = Path("/var/lib/letheon-agent"),
    source: Annotated[
        str, typer.Option(help="Plug-in that reads the records: npz, dicom ...")
    ] = "",
    argument: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Argument of the source; may be repeated."),
    ] = None,
    control_share: Annotated[float, typer.Option(help="Of the patients, never trained on.")] = 0.1,
    validation_share: Annotated[float, typer.Option(help="Of the patients, to measure on.")] = 0.1,
    ca: Annotated[
        Path | None, typer.Option(help="TLS: authority of the coordinator, PEM.", **_FILE)
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="TLS: certificate of this site, PEM.", **_FILE)
    ] = None,
    key: Annotated[Path | None, typer.Option(help="TLS: its key, PEM.", **_FILE)] = None,
    server_name: Annotated[str, typer.Option(help="TLS: name in the certificate there.")] = "",
    tls: Annotated[
        bool, typer.Option("--tls", help="TLS with the public authorities that gRPC brings.")
    ] = False,
    token: Annotated[
        str,
        typer.Option(
            envvar="LETHEON_ENROLMENT_TOKEN",
            help="One-time token of `letheon site invite`: buys this site's certificate.",
        ),
    ] = "",
    enrolment: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the token is good.")
    ] = "",
    certificate_only: Annotated[
        bool,
        typer.Option("--certificate-only", help="Trade the token, and register at the first run."),
    ] = False,
    proxy: Annotated[str, typer.Option(metavar="URL", help="http://user@host:port")] = "",
    proxy_password_file: Annotated[
        Path | None, typer.Option(help="First line: password of the proxy's user.", **_FILE)
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite a configuration that says otherwise.")
    ] = False,
    output: FormatOption = Format.TABLE,
) -> None:
    """Check data and model, set the control records aside, register the site, write the file.

    Without --coordinator an existing configuration file is enrolled as it is. Repeating it is
    harmless. If anything fails, the site is not registered and no file is written.

    With --token a key is made in the state directory, where it stays, and the coordinator signs
    its certificate; the agent renews it by itself.
    """
    if bool(token) != bool(enrolment):
        raise MalformedRequest("--token goes with --enrolment HOST:PORT")
    if certificate_only and not token:
        raise MalformedRequest("--certificate-only is of use with --token")
    from client_agent.config_text import check_writable, write_config
    from client_agent.enrolment import enrol

    if not coordinator:
        settings, text = _existing(config), None
    else:
        values = _values(
            source,
            coordinator=coordinator,
            site=site,
            display_name=display_name,
            state_dir=str(state_dir.absolute()),
            control_share=control_share,
            validation_share=validation_share,
            data={"plugin": source, "arguments": _arguments(argument or [])},
            tls=_with_token(
                _tls(ca, certificate, key, server_name, wanted=tls or bool(token)),
                state_dir if token else None,
            ),
            network=_given({"proxy": proxy, "proxy_password_file": _text(proxy_password_file)})
            or None,
        )
        settings, text = _drafted(config, values, force=force)
    if text is not None:
        check_writable(config)
    if token:
        ends = _trade(settings, enrolment, token)
        if certificate_only:
            if text is not None:
                write_config(config, text)
            _tell_certificate(config, settings, ends, output)
            return
    enrolled = enrol(settings)
    if text is not None:
        write_config(config, text)
    _tell(config, settings, enrolled, output)


def _existing(path: Path) -> AgentConfig:
    from client_agent.config import AgentConfig
    from letheon.servicekit import config as configuration

    if not path.exists():
        raise MalformedRequest(
            f"there is no {path} to enrol: give --coordinator, --site and --source to have it"
            " written"
        )
    return configuration.load(path, AgentConfig)


def _values(source: str, **values: object) -> dict[str, Any]:
    if not values["site"] or not source:
        raise MalformedRequest("--coordinator goes with --site and --source")
    return _given(values)


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in ("", None)}


def _text(path: Path | None) -> str:
    return "" if path is None else str(path)


def _tls(
    ca: Path | None, certificate: Path | None, key: Path | None, server_name: str, *, wanted: bool
) -> dict[str, Any] | None:
    files = {"ca": _text(ca), "certificate": _text(certificate), "key": _text(key)}
    table = _given({**files, "server_name": server_name})
    # An empty table says a thing of its own: TLS with the public authorities.
    return table if table or wanted else None


def _with_token(table: dict[str, Any] | None, state_dir: Path | None) -> dict[str, Any] | None:
    """The table of an agent that gets its certificate itself, and its next ones."""
    from client_agent.first_certificate import certificate_paths

    if table is None or state_dir is None:
        return table
    if "certificate" in table:
        raise MalformedRequest("--token makes certificate and key: leave both options out")
    certificate, key = certificate_paths(state_dir.absolute())
    return {**table, "certificate": str(certificate), "key": str(key), "renew": True}


def _trade(settings: AgentConfig, enrolment: str, token: str) -> datetime:
    from client_agent.enrolment import give_to_owner
    from client_agent.first_certificate import fetch_certificate

    try:
        return fetch_certificate(settings, enrolment, token)
    finally:
        if settings.state_dir.exists():
            give_to_owner(settings.state_dir)


def _tell_certificate(path: Path, settings: AgentConfig, ends: datetime, output: Format) -> None:
    if output is Format.JSON:
        print_document({"config": str(path), "certificate_ends_at": ends.isoformat()})
        return
    say(
        f"{settings.site} has its certificate, until {ends:%Y-%m-%d %H:%M} UTC; its key stays here."
    )
    say(f"Next: letheon-agent run --config {path}")


def _arguments(pairs: list[str]) -> dict[str, Any]:
    """Values are TOML if they are TOML, else text."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, raw = pair.partition("=")
        if not equals or not name.strip():
            raise MalformedRequest(f"--argument wants KEY=VALUE, not {pair!r}")
        try:
            found[name.strip()] = tomllib.loads(f"value = {raw}")["value"]
        except tomllib.TOMLDecodeError:
            found[name.strip()] = raw
    return found


def _drafted(path: Path, values: dict[str, Any], *, force: bool) -> tuple[AgentConfig, str | None]:
    """The configuration and its text; no text if the file says the same already."""
    from client_agent.config import AgentConfig
    from client_agent.config_text import config_text
    from letheon.servicekit import config as configuration

    text = config_text(values)
    made, problems, _ = configuration.examine_text(text, AgentConfig)
    if made is None:
        raise BadConfig("; ".join(str(one) for one in problems), key=problems[0].key)
    if not path.exists():
        return made, text
    try:
        there = configuration.load(path, AgentConfig, {})
    except BadConfig as error:
        if force:
            return made, text
        raise AlreadyExists(f"{path} is there and cannot be used: {error.message}") from error
    if there == made:
        return made, None
    ours, theirs = made.model_dump(), there.model_dump()
    differing = ", ".join(name for name in ours if ours[name] != theirs[name])
    if not force:
        raise AlreadyExists(f"{path} is there and says otherwise: {differing}", file=path)
    return made, text


def _tell(path: Path, settings: AgentConfig, enrolment: Enrolment, output: Format) -> None:
    holdings, plan = enrolment.holdings, enrolment.plan
    sent: dict[str, JsonValue] = {
        "coordinator": settings.coordinator,
        "encrypted": settings.tls is not None,
        "at_enrolment": {
            "site": settings.site,
            "display_name": settings.display_name or settings.site,
            "train_records": holdings.train_records,
            "control_records": holdings.control_records,
            "class_counts": dict(holdings.class_counts),
        },
        "per_task_bytes": enrolment.delta_bytes,
    }
    if output is Format.JSON:
        print_document(
            {
                "config": str(path),
                "state": enrolment.standing.state.value,
                "plan_digest": plan.digest,
                "train_records": holdings.train_records,
                "control_records": holdings.control_records,
                "validation_records": holdings.validation_records,
                "sent": sent,
            }
        )
        return
    classes = ", ".join(f"{name}: {count}" for name, count in holdings.class_counts.items())
    say(f"{settings.site} is {enrolment.standing.state.value} in the federation {plan.name!r}.")
    say("")
    plain = "" if settings.tls else " (NOT ENCRYPTED)"
    say(f"Sent to {settings.coordinator}{plain}, and nowhere else:")
    say(f"  now         the site's name, {holdings.train_records} training records ({classes}),")
    say(f"              {holdings.control_records} control records; counts, nothing of a record")
    say(f"  each task   a model delta of {size_text(enrolment.delta_bytes)} and its mean loss")
    say("  on request  accuracy, AUC and losses over the validation and control records, as means")
    counts = (holdings.train_records, holdings.control_records, holdings.validation_records)
    parts = " / ".join(str(one) for one in counts)
    say("Never leaves: images, labels, file names, record and patient identifiers, the split of")
    say(f"  {parts} records for training, control and validation.")
    say("")
    say(f"Configuration: {path}. Next: letheon-agent run --config {path}")
