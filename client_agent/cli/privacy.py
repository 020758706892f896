"""letheon-agent privacy"""

from __future__ import annotations

import typer

from client_agent.adapters.local_tables import LocalTables
from client_agent.adapters.privacy_ledger import PrivacyLedger
from client_agent.cli.exits import ExitCode
from client_agent.cli.options import DEFAULT_CONFIG, ConfigOption
from client_agent.config import AgentConfig
from letheon.cli.screen import Format, FormatOption, JsonValue, print_document, print_fields
from letheon.errors import BadConfig
from letheon.servicekit import config as configuration
from letheon.servicekit.clock import SystemClock


def privacy(config: ConfigOption = DEFAULT_CONFIG, output: FormatOption = Format.TABLE) -> None:
    """How much of the privacy budget this site's updates have spent. Works beside the daemon.

    Exit code 0: the site trains; 1: its budget is spent and it trains no more; 78: it does not
    train privately, or no agent has run yet.
    """
    told = configuration.load(config, AgentConfig)
    document = _document(told)
    if output is Format.JSON:
        print_document(document)
    else:
        print_fields(f"Privacy of {told.site}", {k: _text(v) for k, v in document.items()})
    if document["spent"]:
        raise typer.Exit(int(ExitCode.DOES_NOT_HOLD))


def _document(config: AgentConfig) -> dict[str, JsonValue]:
    if config.privacy is None:
        raise BadConfig("there is no table [privacy]: this site's updates are not private")
    database = config.state_dir / "agent.db"
    if not database.exists():
        raise BadConfig(f"no agent has run with state_dir {config.state_dir} yet")
    tables = LocalTables(database)
    try:
        ledger = PrivacyLedger(tables, SystemClock())
        last, updates, uncharged = ledger.last(), ledger.updates(), ledger.uncharged_updates()
    finally:
        tables.close()
    told = config.privacy
    return {
        "epsilon": 0.0 if last is None else round(last[0].epsilon, 4),
        "epsilon_next": None if last is None else round(last[0].epsilon_next, 4),
        "epsilon_budget": told.epsilon_budget,
        # Counted with the delta of that time; the agent counts anew when it starts.
        "delta": told.delta if last is None else last[1],
        "unit": told.unit,
        "spent": last is not None and last[0].epsilon_next > told.epsilon_budget,
        "charged_updates": updates,
        "uncharged_updates": uncharged,
    }


def _text(value: JsonValue) -> str:
    return "" if value is None else str(value)
