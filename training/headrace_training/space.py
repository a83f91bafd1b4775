"""What a search may try: the range of each parameter of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Real:
    """Any number from low to high; ``log``: factors are as far apart as each other, and low is above 0."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Whole:
    """Any whole number from low to high, both included."""

    low: int
    high: int
    log: bool = False


@dataclass(frozen=True)
class Choice:
    """One of a few values without an order."""

    options: tuple[str | int | float | bool, ...]


Space = Mapping[str, Real | Whole | Choice]
"""By the name that the parameter has in the model's constructor and in its ``parameters``.

A model class says what may be searched by an attribute ``space`` of this type, within which its defaults lie.
"""


def prefixed(name: str, space: Space) -> Space:
    """The space of a part of a model: "graph" and "low_pass" make "graph.low_pass"."""
    return {f"{name}.{parameter}": span for parameter, span in space.items()}


def space_of(model: object) -> Space:
    """What a model or its class says may be searched; empty when it says nothing."""
    space: Space = getattr(model, "space", {})
    return space
