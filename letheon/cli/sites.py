"""`letheon sites`: the hospitals that train together."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from letheon import names
from letheon.cli.documents import Fields, site_document
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import (
    Format,
    FormatOption,
    age_text,
    print_document,
    print_fields,
    print_rows,
)
from letheon.v1 import sites_pb2


def full_site_name(text: str) -> str:
    """`site-3` or `sites/site-3` as `sites/site-3`. Raises MalformedName."""
    return names.site_name(names.site_id(text) if "/" in text else text)


def sites(
    site: Annotated[str | None, typer.Argument(help="One site; all of them without it.")] = None,
    coordinator: CoordinatorOption = None,
    output: FormatOption = Format.TABLE,
) -> None:
    """The sites: state, records, accepted deltas, when each was last heard of, and how much of its
    privacy budget is spent.
    """
    with connect(coordinator) as remote:
        if site is None:
            found = list(remote.sites.ListSites(sites_pb2.ListSitesRequest()).sites)
        else:
            request = sites_pb2.GetSiteRequest(name=full_site_name(site))
            found = [remote.sites.GetSite(request)]
    now = datetime.now(UTC)
    rows = [site_document(each, now) for each in found]
    if output is Format.JSON:
        print_document(rows[0] if site is not None else {"sites": rows})
    elif site is not None:
        told = {**rows[0], "privacy": privacy_text(rows[0]["privacy"])}
        print_fields(str(rows[0]["name"]), {k: _text(v) for k, v in told.items()})
    else:
        print_sites(rows)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def print_sites(rows: Sequence[Fields]) -> None:
    """The table of sites; a column about privacy where one of them trains privately."""
    private = any(row["privacy"] for row in rows)
    print_rows(
        "Sites",
        [
            "site",
            "state",
            "records",
            "accepted deltas",
            "versions",
            "last heard of",
            *(["privacy"] if private else []),
            "erasure",
        ],
        [
            [
                str(row["name"]),
                str(row["state"]),
                _text(row["records"]),
                _text(row["accepted_deltas"]),
                _versions(row),
                _heard(row["silent_s"]),
                *([privacy_text(row["privacy"])] if private else []),
                _text(row["erasure"]),
            ]
            for row in rows
        ],
    )


def privacy_text(loss: object) -> str:
    """`epsilon 3.10 of 8 a record`; empty for a site that does not train privately."""
    if not isinstance(loss, dict):
        return ""
    spent = ", spent" if loss["spent"] else ""
    epsilon, budget = float(loss["epsilon"]), float(loss["epsilon_budget"])
    return f"epsilon {epsilon:.2f} of {budget:g} a {loss['unit']}{spent}"


def _versions(row: Fields) -> str:
    return "" if row["first_version"] is None else f"{row['first_version']}-{row['last_version']}"


def _heard(silent_s: object) -> str:
    return f"{age_text(silent_s)} ago" if isinstance(silent_s, float) else "never"
