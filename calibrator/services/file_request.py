"""Files a request that a consent system put into the queue."""

from __future__ import annotations

from dataclasses import replace

from calibrator.ports import Claims
from letheon.names import site_name
from letheon.servicekit.erasure_queue import ConsentRequest


def file_request(request: ConsentRequest, claims: Claims) -> str:
    """Files it, idempotent by its request id; returns the erasure's name.

    The site may be given as identifier or as full name. Raises MalformedName, UnknownSite,
    ErasureAlreadyRequested and whatever else the coordinator answers.
    """
    site = site_name(request.site.removeprefix("sites/"))
    return claims.request(replace(request, site=site))
