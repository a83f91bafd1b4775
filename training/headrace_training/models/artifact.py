"""The factors of a finished artifact, as a model."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.artifacts import Artifact
from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters
from headrace_training.models.product import FactorProduct


class ArtifactModel:
    """Products of the stored factors; ``train`` holds the items of each person's stored history."""

    name = "ials"

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        weights = np.array(artifact.history_weights)
        shape = (len(artifact.user_ids), len(artifact.item_ids))
        train = sp.csr_matrix(
            (weights, np.array(artifact.history_items), np.array(artifact.history_indptr)), shape=shape
        )
        train.sum_duplicates()
        train.eliminate_zeros()
        self.train = train

    @property
    def parameters(self) -> Parameters:
        return {"version": self.artifact.version, **self.artifact.manifest.parameters}

    @property
    def n_items(self) -> int:
        return len(self.artifact.item_ids)

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("an artifact is fitted already")

    def product(self) -> FactorProduct:
        return FactorProduct(np.asarray(self.artifact.user_factors), np.asarray(self.artifact.item_factors))

    def scores(self, users: Int32) -> Float32:
        return np.asarray(self.artifact.user_factors[users] @ self.artifact.item_factors.T, dtype=np.float32)
