"""When the patch of an exchange may be added: the rule of the services and of the simulator.

A swap is added whole or not at all, since part of it leaves influence. Where it may not be added,
its site's whole contribution is removed and the site begins again at zero: a readmission.
"""

from __future__ import annotations

from letheon.errors import MalformedUpdate

ALLOWED_DROP = 0.10  # of accuracy on the calibrator's audit images, by the patch

_ROUNDING = 1e-4  # of a norm, by an encoding of 16 bits


def check_cap(length: float, *, contribution_norm: float, ratio: float) -> None:
    """Raises MalformedUpdate(rule=cap) for a patch longer than `ratio` of the site's contribution.

    Both are L2 norms, the contribution's that of the moment the exchange was asked for.
    """
    cap = ratio * contribution_norm
    if length > cap * (1 + _ROUNDING):
        raise MalformedUpdate(
            f"the exchange has L2 norm {length:.6g}; {cap:.6g} is allowed "
            f"({ratio:g} of the site's contribution): remove and readmit the site",
            rule="cap",
            tensor="*",
        )


def begins_epoch(length: float, *, contribution_norm: float, share: float) -> bool:
    """Whether the patch is so large a share of the contribution that an epoch begins with it."""
    return length > share * contribution_norm
