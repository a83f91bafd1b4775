"""Factors of items that few or none took, from what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from headrace.errors import ConfigError
from headrace.types import Float64
from headrace_training.models.base import Model, Parameters
from headrace_training.models.blend import BlendModel
from headrace_training.models.ials import IalsModel
from headrace_training.space import Real, Space

STEPS = 60
TOLERANCE = 1e-4


class SideInfoModel(IalsModel):
    """iALS whose item factors lean on a ridge regression of the factors on the items' attributes.

    With y an item's factors, n its users and a W what its attributes say, the item gets (n y + strength a W) /
    (n + strength): who took it decides where many did, its attributes where nobody did. W minimises
    Σ n |a W - y|² + penalty |W|², as in Gantner et al., "Learning attribute-to-feature mappings for cold-start
    recommendations", ICDM 2010, section IV.

    attributes : (n_items, n_attributes) float32 CSR, rows of length 1 or empty.
    strength   : users that the attributes are worth.   penalty : of the regression.
    """

    name = "sideinfo"
    space: ClassVar[Space] = {"strength": Real(0.1, 100.0, log=True), "penalty": Real(0.1, 1000.0, log=True)}

    def __init__(
        self, attributes: sp.csr_matrix, ials: IalsModel, *, strength: float = 2.0, penalty: float = 10.0
    ) -> None:
        super().__init__(**ials.parameters)  # type: ignore[arg-type]
        if not (0 < strength < float("inf") and 0 < penalty < float("inf")):
            raise ConfigError("strength and penalty", got=(strength, penalty), expected="finite numbers above 0")
        self.attributes = attributes
        self.strength = strength
        self.penalty = penalty

    @property
    def parameters(self) -> Parameters:
        return {**super().parameters, "strength": self.strength, "penalty": self.penalty}

    def fit(self, train: sp.csr_matrix) -> None:
        super().fit(train)
        counts = np.bincount(train.indices, minlength=train.shape[1]).astype(np.float64)
        # the solver gives an item that nobody took what it started from, or nothing
        learned = np.where(counts[:, None] > 0, self.item_factors.astype(np.float64), 0.0)
        weights = regress(self.attributes.astype(np.float64), counts, learned, self.penalty)
        told = self.attributes.astype(np.float64) @ weights
        known = np.diff(self.attributes.indptr) > 0
        strength = np.where(known, self.strength, 0.0)
        total = np.maximum(counts + strength, 1e-30)[:, None]
        self.item_factors = ((counts[:, None] * learned + strength[:, None] * told) / total).astype(np.float32)


@dataclass
class _Normal:
    """Products with A' N A + penalty I."""

    attributes: sp.csr_matrix
    weighted: sp.csr_matrix
    penalty: float

    def __matmul__(self, columns: Float64) -> Float64:
        product: Float64 = self.weighted @ (self.attributes @ columns) + self.penalty * columns
        return product


def regress(attributes: sp.csr_matrix, counts: Float64, factors: Float64, penalty: float) -> Float64:
    """Ridge regression of factors on attributes, items weighted by counts; (n_attributes, d) float64.

    Conjugate gradients, all columns at once.
    """
    weighted = (attributes.T @ sp.diags(counts)).tocsr()
    normal = _Normal(attributes, weighted, penalty)
    right = weighted @ factors
    found = np.zeros_like(right)
    residual, direction = right.copy(), right.copy()
    rho = (residual**2).sum(axis=0)
    goal = rho * TOLERANCE**2
    for _ in range(STEPS):
        if (rho <= goal).all():
            break
        image = normal @ direction
        curve = (direction * image).sum(axis=0)
        step = np.where(rho > goal, rho / np.maximum(curve, 1e-300), 0.0)
        found += step * direction
        residual -= step * image
        new = (residual**2).sum(axis=0)
        direction = residual + np.where(rho > 0, new / np.maximum(rho, 1e-300), 0.0) * direction
        rho = new
    return np.asarray(found)


def lean_on(model: Model, attributes: sp.csr_matrix) -> Model:
    """The same model, not fitted, with factors that lean on attributes; ConfigError for a model without factors."""
    if isinstance(model, IalsModel):
        return SideInfoModel(attributes, model)
    if isinstance(model, BlendModel) and model.weights["ials"]:
        model.ials = SideInfoModel(attributes, model.ials)
        return model
    raise ConfigError("--items", got=model.name, expected="ials or blend", hint="attributes speak through factors")
