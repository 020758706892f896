"""Reads the parts of contributions off their stream, each checked against its digest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from calibrator.domain.contributions import RetainedPart
from letheon.errors import ChecksumMismatch, CoordinatorUnreachable, MalformedUpdate, OffsetMismatch
from letheon.federation import encoding
from letheon.federation.parameters import Layout
from letheon.servicekit.chunks import check_chunk
from letheon.v1.erasures_pb2 import ContributionPart, DownloadContributionsResponse


def read_parts(
    responses: Iterable[DownloadContributionsResponse], layout: Layout
) -> Iterator[RetainedPart]:
    """The parts in order, each [d] of the layout.

    Raises CoordinatorUnreachable for a stream that broke or is not what its headers say: the caller
    asks again.
    """
    size_bytes = layout.size * 4
    header, data = None, bytearray()
    for response in responses:
        if response.WhichOneof("part") == "header":
            if header is not None:
                yield _part(header, data)
            header, data = response.header, bytearray()
            if header.size_bytes != size_bytes:
                raise CoordinatorUnreachable(
                    f"a part of {header.site} has {header.size_bytes} bytes, the plan's layout "
                    f"{size_bytes}"
                )
            continue
        if header is None:
            raise CoordinatorUnreachable("the contributions did not begin with a header")
        try:
            data += check_chunk(response.chunk, len(data))
        except (ChecksumMismatch, MalformedUpdate, OffsetMismatch) as error:
            raise CoordinatorUnreachable(f"the contributions broke: {error}") from error
        if len(data) > size_bytes:
            raise CoordinatorUnreachable(f"a part of {header.site} is longer than promised")
    if header is not None:
        yield _part(header, data)


def _part(header: ContributionPart, data: bytearray) -> RetainedPart:
    if hashlib.sha256(data).digest() != header.sha256:
        raise CoordinatorUnreachable(
            f"the part of {header.site} up to entry {header.last_entry} is not the one promised"
        )
    values = encoding.decode(data, "float32")
    return RetainedPart(header.site, header.first_entry, header.last_entry, values)
