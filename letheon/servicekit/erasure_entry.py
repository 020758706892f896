"""Entries of the erasure queue: their fields, as DESIGN section 8 fixes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from letheon.errors import MalformedRequest
from letheon.servicekit import tracing

SCHEMA = "1"
# An entry whose consumer is silent for longer is handed to another one.
RECLAIM_AFTER_S = 60.0


@dataclass(frozen=True)
class ConsentRequest:
    """What a consent system asks for: erase a whole site."""

    request_id: str
    site: str  # sites/{site} or its bare identifier
    basis: str


@dataclass(frozen=True)
class Entry:
    """An entry in the hands of a consumer. Exactly one of `erasure` and `request` is set."""

    entry: str
    consumer: str
    deliveries: int  # 1 the first time; grows whenever a consumer let go without an answer
    erasure: str | None = None  # as announced
    request: ConsentRequest | None = None
    traceparent: str | None = None  # W3C Trace Context of whoever added it


@dataclass(frozen=True)
class DeadLetter:
    """An entry nobody can act on, kept for a human."""

    entry: str
    reason: str
    fields: Mapping[str, str]


def parse_entry(entry: str, consumer: str, deliveries: int, fields: Mapping[str, str]) -> Entry:
    """Reads the fields of an entry. Raises MalformedRequest with a reason for the dead letters."""
    if fields.get("schema") != SCHEMA:
        raise MalformedRequest(f"schema {fields.get('schema')!r} is not {SCHEMA!r}")
    erasure, request = fields.get("erasure"), fields.get("request")
    if bool(erasure) == bool(request):
        raise MalformedRequest("exactly one of the fields erasure and request is due")
    trace = fields.get("traceparent")
    if erasure:
        return Entry(entry, consumer, deliveries, erasure=erasure, traceparent=trace)
    consent = _parse_request(request or "")
    return Entry(entry, consumer, deliveries, request=consent, traceparent=trace)


def announcement(erasure_id: str) -> dict[str, str]:
    """The fields that announce an erasure, and the present trace if there is one."""
    fields = {"erasure": erasure_id, "schema": SCHEMA}
    if (trace := tracing.traceparent()) is not None:
        fields["traceparent"] = trace
    return fields


def fields_of(entry: Entry) -> dict[str, str]:
    """The fields that `parse_entry` reads back."""
    if entry.erasure is not None:
        return {"erasure": entry.erasure, "schema": SCHEMA}
    request = json.dumps(vars(entry.request)) if entry.request is not None else ""
    return {"request": request, "schema": SCHEMA}


def _parse_request(text: str) -> ConsentRequest:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise MalformedRequest("request is not JSON") from None
    names = ("request_id", "site", "basis")
    if not isinstance(value, dict) or set(value) != set(names):
        raise MalformedRequest(f"request must hold exactly {', '.join(names)}")
    if not all(isinstance(value[name], str) and value[name] for name in names):
        raise MalformedRequest(f"{', '.join(names)} must be texts that are not empty")
    return ConsentRequest(**value)
