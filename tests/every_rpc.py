"""Every rpc of the wire contract, and a request for each that names a site."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from google.protobuf.message import Message

import letheon.v1
from coordinator.rpc.permissions import TABLE, Reach
from letheon.errors import LetheonError
from letheon.servicekit.caller import Role

_NAMELESS = TABLE["letheon.v1.Sites/ListSites"]


def _services() -> list[tuple[Any, Any]]:
    """Descriptor and stub class of every service."""
    found = []
    for module in iter_modules(letheon.v1.__path__):
        if not module.name.endswith("_pb2"):
            continue
        messages = import_module(f"letheon.v1.{module.name}")
        stubs = import_module(f"letheon.v1.{module.name}_grpc")
        for service in messages.DESCRIPTOR.services_by_name.values():
            found.append((service, getattr(stubs, f"{service.name}Stub")))
    return found


METHODS = {
    f"{service.full_name}/{method.name}": (stub, method)
    for service, stub in _services()
    for method in service.methods
}


def is_due(full: str, role: Role, *, own: bool) -> bool:
    """Whether the table lets the role call an rpc for its own site, or for another."""
    rule = TABLE[full]
    reach = rule.roles.get(role)
    if reach is Reach.OWN:
        return own
    if reach is Reach.CENTRAL:
        return rule.site is _NAMELESS.site and rule.erasure is _NAMELESS.erasure
    return reach is not None


def request_for(full: str, method: Any, site: str, erasures: Mapping[str, str]) -> Message:
    """A request that names the site, or its erasure, wherever the rpc can name one."""
    request: Any = method.input_type._concrete_class()
    fields = method.input_type.fields_by_name
    if "site" in fields:
        request.site = f"sites/{site}"
    if "reader" in fields:
        request.reader, request.name = f"sites/{site}", "models/head"
    elif "Sites/" in full and "name" in fields:
        request.name = f"sites/{site}"
    elif "Certificates/" in full and "name" in fields:
        request.name = f"certificates/{erasures[site]}"
    elif "name" in fields:
        request.name = f"erasures/{erasures[site]}"
    if "header" in fields:
        request.header.delta.site = f"sites/{site}"
    return request


def outcome(stub: Any, method: Any, request: Message) -> LetheonError | None:
    """What the call was refused with, whatever kind of call it is."""
    call = getattr(stub, method.name)
    try:
        answer = call(iter([request])) if method.client_streaming else call(request)
        if method.server_streaming:
            next(iter(answer), None)
    except LetheonError as error:
        return error
    return None
