"""Bids in proportion to the value."""

from __future__ import annotations

from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.fitted import Fitted


def linear(start: Start) -> Fitted:
    """Bids number · value: Perlich et al., "Bid optimizing and inventory scoring", KDD 2012."""
    return Fitted(start, lambda values, number: values * number)
