"""Letheon: federated learning for hospitals that can forget."""

from typing import TYPE_CHECKING

from letheon.version import __version__ as __version__

if TYPE_CHECKING:
    from letheon.site import train as train


def __getattr__(name: str) -> object:
    # `@letheon.train` in a site's own code; whoever else imports this package does not pay for it.
    if name == "train":
        from letheon.site.handover import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
