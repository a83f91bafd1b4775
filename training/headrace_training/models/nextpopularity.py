"""The same answer to every prefix: what was taken most."""

from __future__ import annotations

import numpy as np

from headrace.types import Float32
from headrace_training.models.base import Parameters
from headrace_training.models.servable import Servable
from headrace_training.models.transitions import answer, popularity_of
from headrace_training.sequences import Sequences


class NextPopularityModel:
    """Share of all places of the training rows."""

    name = "popularity"

    def __init__(self) -> None:
        self._popularity = np.empty(0, dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self._popularity)

    def fit(self, train: Sequences) -> None:
        self._popularity = popularity_of(train)

    def servable(self) -> Servable:
        """What the fitted model answers with."""
        return Servable((), np.zeros(0, dtype=np.float32), self._popularity)

    def scores(self, prefixes: Sequences, /) -> Float32:
        return answer(self.servable(), prefixes)
