"""Logistic regression, or a multilayer perceptron, on the rows of a table."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from letheon.imaging.models.model import Spec, TableSpec


def build(spec: Spec, classes: int, hidden: Sequence[int] = (16,)) -> nn.Module:
    """`hidden`: units of each hidden layer; none makes it logistic regression.

    Rows [n, features] become logits [n, classes]. Features should be of order one: the source
    standardises them by numbers that the federation has agreed on.
    """
    if not isinstance(spec, TableSpec):
        raise TypeError("it takes a row of a table, and a record is an image")
    if spec.features < 1 or classes < 2 or min(hidden, default=1) < 1:
        raise ValueError("features and hidden units are at least 1, classes at least 2")
    widths = (spec.features, *hidden)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
