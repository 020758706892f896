"""Everything that is wrong with a configuration file, at once. Contacts nobody."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client_agent.checks.config_lines import line_of, lines_of
from client_agent.checks.partial_config import PartialConfig, salvage
from client_agent.checks.suspicions import suspicions
from client_agent.config import AgentConfig
from client_agent.network_config import CREDENTIALS, route_to
from letheon import registry
from letheon.errors import BadConfig, LetheonError
from letheon.servicekit import config as configuration
from letheon.servicekit.route import check_pair

_UNSEEN = "is a credential of systemd: neither it nor the other files of TLS were looked at"


@dataclass(frozen=True)
class Remark:
    """Something about one key of the file."""

    key: str  # dotted; empty: the file as a whole
    sentence: str
    line: int | None  # from 1; None where the key does not stand in the file

    def __str__(self) -> str:
        where = f"line {self.line}, " if self.line is not None else ""
        return f"{where}{self.key or 'the file as a whole'}: {self.sentence}"


@dataclass(frozen=True)
class Verdict:
    """What was found; the file can be used if there is no error."""

    config: AgentConfig | None
    errors: tuple[Remark, ...]
    warnings: tuple[Remark, ...]


def check_config_file(path: Path, environ: Mapping[str, str] = os.environ) -> Verdict:
    """Checks keys, values, plug-in names and the files that the configuration names.

    Raises BadConfig if the file cannot be read or is not TOML: then nothing else can be said.
    """
    config, problems, values = configuration.examine(path, AgentConfig, environ)
    lines = lines_of(path.read_text(encoding="utf-8"))

    def remark(key: str, sentence: str) -> Remark:
        return Remark(key, sentence, line_of(key, lines))

    errors = [
        Remark(one.key, f"(from {one.variable}) {one.rule}", None)
        if one.variable
        else remark(one.key, one.rule)
        for one in problems
    ]
    usable = salvage(values)
    errors += [remark(key, sentence) for key, sentence in _unusable(usable, environ)]
    rarely_meant = [
        *suspicions(usable.config),
        *((key, _UNSEEN) for key in _unseen_credentials(usable.config, environ)),
    ]
    warnings = tuple(
        remark(key, sentence) for key, sentence in rarely_meant if usable.has(key.partition(".")[0])
    )
    return Verdict(config, tuple(errors), warnings)


def _unusable(usable: PartialConfig, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Values that are well formed and name something that is not there."""
    config, found = usable.config, []
    known = registry.names(registry.SOURCES)
    if usable.has("data") and config.data.plugin not in known:
        there = ", ".join(known) or "none is installed"
        sentence = f"no source {config.data.plugin!r} is installed; there are: {there}"
        found.append(("data.plugin", sentence))
    elif usable.has("data"):
        try:
            # Touches nothing but its arguments: a source reads when it is told to.
            registry.build(registry.SOURCES, config.data.plugin, config.data.arguments)
        except LetheonError as error:
            found.append(("data.arguments", error.message))
    if _unseen_credentials(config, environ):
        return found
    try:
        route = route_to(config.coordinator, config.tls, config.network, environ)
        if route.tls is not None:
            check_pair(route.tls)
    except BadConfig as error:
        found.append((error.facts.get("key", "tls"), error.message))
    return found


def _unseen_credentials(config: AgentConfig, environ: Mapping[str, str]) -> list[str]:
    """Keys whose file systemd hands over when it starts the unit, and not here."""
    if "CREDENTIALS_DIRECTORY" in environ:
        return []
    files = {"network.proxy_password_file": config.network.proxy_password_file}
    if config.tls is not None:
        named = (config.tls.ca, config.tls.certificate, config.tls.key)
        files |= dict(zip(("tls.ca", "tls.certificate", "tls.key"), named, strict=True))
    return [key for key, path in files.items() if str(path).startswith(CREDENTIALS)]
