"""The distributions that the tests of the laboratory need, by scipy (the extra `lab`)."""

from __future__ import annotations

from types import ModuleType

from letheon.errors import BadConfig


def student_above(value: float, freedom: int) -> float:
    """Chance that Student's t with that many degrees of freedom lies above the value."""
    return float(_stats().t.sf(value, freedom))


def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t lies below with this probability."""
    return float(_stats().t.ppf(probability, freedom))


def beta_quantile(probability: float, first: float, second: float) -> float:
    """The value that a beta variable of these two shapes lies below with this probability."""
    return float(_stats().beta.ppf(probability, first, second))


def _stats() -> ModuleType:
    try:
        # Half a second, and only the laboratory has it: whoever asks for a quantile pays.
        from scipy import stats
    except ImportError as error:
        raise BadConfig("this test needs scipy: install letheon[lab]") from error
    module: ModuleType = stats
    return module
