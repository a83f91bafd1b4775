"""The same bid for every impression."""

from __future__ import annotations

import numpy as np

from headrace_training.replay.strategies.base import Start
from headrace_training.replay.strategies.fitted import Fitted


def constant(start: Start) -> Fitted:
    """Bids one number, whatever the value."""
    return Fitted(start, lambda values, number: np.full(len(values), number))
