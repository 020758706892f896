"""What a data source is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from letheon.imaging.records import Records


@runtime_checkable
class Source(Protocol):
    """Gives a site's records. Built from a configuration table; touches nothing until `load`.

    Laws: loading twice gives equal records; record ids are unique and do not depend on which
    part of the data was asked for; pixels lie in [0, 1].
    """

    def load(self) -> Records:
        """Reads the records. Raises BadData with one clear sentence."""
        ...
