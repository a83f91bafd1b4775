"""The same scores for everybody: how many users took an item."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters


class PopularityModel:
    """Number of users of each item; the fallback for users without a history."""

    name = "popularity"

    def __init__(self) -> None:
        self._counts: Float32 = np.empty(0, dtype=np.float32)

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self._counts)

    def fit(self, train: sp.csr_matrix) -> None:
        self._counts = np.bincount(train.indices, minlength=train.shape[1]).astype(np.float32)

    def scores(self, users: Int32) -> Float32:
        return np.tile(self._counts, (len(users), 1))
