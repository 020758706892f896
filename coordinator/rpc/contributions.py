"""Parts of contributions as the messages of a stream."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

from coordinator.services.keep_derived import vector_bytes
from coordinator.services.retained_parts import Part
from letheon.names import site_name
from letheon.servicekit.chunks import chunk_messages
from letheon.v1 import erasures_pb2


def messages(part: Part) -> Iterator[erasures_pb2.DownloadContributionsResponse]:
    """Its header, then its chunks."""
    data = vector_bytes(part.values)
    header = erasures_pb2.ContributionPart(
        site=site_name(part.site),
        first_entry=part.first_entry,
        last_entry=part.last_entry,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
    )
    yield erasures_pb2.DownloadContributionsResponse(header=header)
    yield from chunk_messages(
        erasures_pb2.DownloadContributionsResponse, io.BytesIO(data), 0, len(data)
    )
