"""`letheon status`: where the federation stands."""

from __future__ import annotations

from datetime import UTC, datetime

from letheon.cli.documents import erasure_document, federation_document, site_document
from letheon.cli.remote import CoordinatorOption, connect
from letheon.cli.screen import Format, FormatOption, print_document, print_fields, say, size_text
from letheon.cli.sites import print_sites
from letheon.v1 import erasures_pb2, federation_pb2, sites_pb2


def status(coordinator: CoordinatorOption = None, output: FormatOption = Format.TABLE) -> None:
    """Head, serving version, epoch, sites, open erasures and updates by outcome."""
    with connect(coordinator) as remote:
        federation = remote.federation.GetFederation(federation_pb2.GetFederationRequest())
        sites = remote.sites.ListSites(sites_pb2.ListSitesRequest()).sites
        erasures = remote.erasures.ListErasures(
            erasures_pb2.ListErasuresRequest(open_only=True)
        ).erasures
    now = datetime.now(UTC)
    site_rows = [site_document(site, now) for site in sites]
    open_rows = [erasure_document(erasure) for erasure in erasures]
    if output is Format.JSON:
        print_document(
            {
                "federation": federation_document(federation),
                "sites": site_rows,
                "open_erasures": open_rows,
            }
        )
        return
    print_fields("Federation", _federation_fields(federation))
    print_sites(site_rows)
    if not open_rows:
        say("No open erasure.")
    for row in open_rows:
        say(f"Open erasure {row['id']}: {row['site']} by {row['method']}, {row['state']}.")


def _federation_fields(status: federation_pb2.FederationStatus) -> dict[str, str]:
    serving = (
        "none offered"
        if not status.HasField("serving_version")
        else (
            f"{status.serving_version}"
            + (
                " (still carries a subject that is being erased)"
                if status.serving_carries_subject
                else ""
            )
        )
    )
    updates = ", ".join(f"{count} {name}" for name, count in sorted(status.updates.items()))
    return {
        "head": f"version {status.head_version}, epoch {status.epoch}",
        "serving": serving,
        "ledger": f"{status.entries} entries, newest hash {status.ledger_hash[:16]}",
        "updates": updates or "none yet",
        "model": size_text(status.model_size_bytes),
        "on disk": _disk_text(status),
        "kept": (
            f"{status.payloads_kept} payloads; versions from "
            f"{status.oldest_rebuildable_version} on (entry {status.oldest_rebuildable_entry}) "
            "can be rebuilt"
        ),
        "restart": f"would replay {status.entries_since_checkpoint} entries",
        "plan": status.plan_digest[:16],
    }


def _disk_text(status: federation_pb2.FederationStatus) -> str:
    areas = ", ".join(
        f"{name} {size_text(size)}" for name, size in sorted(status.disk_bytes_by_area.items())
    )
    return f"{size_text(status.disk_bytes)} ({areas})" if areas else size_text(status.disk_bytes)
