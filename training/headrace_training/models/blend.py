"""Item-item models and factors together: neighbours see the rare, factors the general."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from headrace.errors import ConfigError
from headrace.types import Float32, Float64, Int32
from headrace_training.models.base import Model, Parameters, degrees
from headrace_training.models.graph import GraphModel
from headrace_training.models.ials import IalsModel
from headrace_training.models.linear import LinearModel
from headrace_training.space import Real, Space, prefixed

SPREAD_USERS = 400
"""Users over whom the mean spread of a model's scores is taken."""


@dataclass(frozen=True)
class Servable:
    """What it takes to score people who came after the training, or whose history has grown.

    A row h of history weights with the sum n scores ``h @ links + n ** length_exponent * x @ item_factors.T``, where x
    is the fold-in of the confidences ``h * item_confidence * n ** -user_exponent``.

    links           : (n_items, n_items) float32 CSR, row i what an item i of the history adds to each item.
    item_factors    : (n_items, d) float32, times the weight of the factors; (n_items, 0) without factors.
    item_confidence : (n_items,) float32.   regularization : of the fold-in, whose items are ``fold_factors``.
    fold_factors    : (n_items, d) float32, as they were learned.
    """

    links: sp.csr_matrix
    item_factors: Float32
    fold_factors: Float32
    item_confidence: Float32
    regularization: float
    user_exponent: float
    length_exponent: float


class BlendModel:
    """Weighted sum of models, each divided by the mean over users of its scores' standard deviation.

    linear_weight, graph_weight, ials_weight : a model of weight 0 is left out.
    length_exponent : factors weigh more by this power of the sum of the user's weights, in interactions of mean weight;
                      item-item scores grow with the history, those of factors do not.
    """

    name = "blend"
    space: ClassVar[Space] = {
        "linear_weight": Real(0.1, 10.0, log=True),
        "length_exponent": Real(0.0, 1.0),
        **prefixed("linear", LinearModel.space),
        **prefixed("ials", IalsModel.space),
    }

    def __init__(
        self,
        linear_weight: float = 1.0,
        graph_weight: float = 0.0,
        ials_weight: float = 1.0,
        length_exponent: float = 0.25,
        *,
        linear: LinearModel | None = None,
        graph: GraphModel | None = None,
        ials: IalsModel | None = None,
        seed: int = 0,
    ) -> None:
        self.weights = {"linear": linear_weight, "graph": graph_weight, "ials": ials_weight}
        if not np.isfinite([*self.weights.values(), length_exponent]).all() or not any(self.weights.values()):
            raise ConfigError("weights of the blend", got=self.weights, expected="finite numbers, one of them not 0")
        self.length_exponent = length_exponent
        self.linear = linear or LinearModel()
        self.graph = graph or GraphModel(low_pass=0.0, seed=seed)
        self.ials = ials or IalsModel(seed=seed)
        self._scales: dict[str, float] = {}
        self._lengths: Float64 = np.empty(0)
        self._train = sp.csr_matrix((0, 0), dtype=np.float32)

    @property
    def members(self) -> dict[str, Model]:
        """The models that have a weight."""
        models: dict[str, Model] = {"linear": self.linear, "graph": self.graph, "ials": self.ials}
        return {name: model for name, model in models.items() if self.weights[name]}

    @property
    def parameters(self) -> Parameters:
        own: Parameters = {f"{name}_weight": weight for name, weight in self.weights.items()}
        own["length_exponent"] = self.length_exponent
        for name, model in self.members.items():
            own |= {f"{name}.{key}": value for key, value in model.parameters.items()}
        return own

    @property
    def n_items(self) -> int:
        return int(self._train.shape[1])

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """At most about what fitting takes beside train: all members together."""
        linear, graph, ials = (bool(self.weights[name]) for name in ("linear", "graph", "ials"))
        return (
            linear * self.linear.memory_bytes(train)
            + graph * self.graph.memory_bytes(train)
            + ials * self.ials.memory_bytes(train)
        )

    def fit(self, train: sp.csr_matrix) -> None:
        self._train = train
        self._lengths = history_lengths(train)
        taken = np.flatnonzero(np.diff(train.indptr))
        users = taken[np.linspace(0, len(taken) - 1, min(SPREAD_USERS, len(taken))).astype(int)].astype(np.int32)
        for name, model in self.members.items():
            model.fit(train)
            self._scales[name] = self.weights[name] / spread_of(model, users)

    def scores(self, users: Int32) -> Float32:
        total = np.zeros((len(users), self.n_items), dtype=np.float32)
        lengths = (self._lengths[users] ** self.length_exponent).astype(np.float32)[:, None]
        for name, model in self.members.items():
            scores = model.scores(users)
            scores *= lengths * np.float32(self._scales[name]) if name == "ials" else np.float32(self._scales[name])
            total += scores
        return total

    def servable(self, n_links: int) -> Servable:
        """The fitted model for people outside the training data, with at most ``n_links`` links an item."""
        n_items = self.n_items
        links = sp.csr_matrix((n_items, n_items), dtype=np.float32)
        for name, matrix in (("linear", self.linear.item_item), ("graph", self.graph.item_item)):
            if self.weights[name]:
                links = links + sp.csr_matrix(matrix) * np.float32(self._scales[name])
        factors = self.ials.item_factors if self.weights["ials"] else np.empty((n_items, 0), dtype=np.float32)
        scale = self._scales.get("ials", 0.0) * mean_weight(self._train) ** -self.length_exponent
        frequent = np.maximum(degrees(self._train)[1], 1e-12) ** -self.ials.item_exponent
        return Servable(
            links=strongest(links.tocsr(), n_links),
            item_factors=factors * np.float32(scale),
            fold_factors=factors,
            item_confidence=(self.ials.trainer.alpha * frequent).astype(np.float32),
            regularization=self.ials.trainer.regularization,
            user_exponent=self.ials.user_exponent,
            length_exponent=self.length_exponent,
        )


def history_lengths(train: sp.csr_matrix) -> Float64:
    """Sum of each user's weights in interactions of mean weight, at least 1e-6; (n_users,) float64."""
    return np.maximum(degrees(train)[0] / mean_weight(train), 1e-6)


def mean_weight(train: sp.csr_matrix) -> float:
    """Of the stored interactions; 1 when there is none."""
    return float(train.sum(dtype=np.float64)) / train.nnz if train.nnz else 1.0


def spread_of(model: Model, users: Int32) -> float:
    """Mean over users of the standard deviation of a model's scores; 1 when all are equal."""
    spreads = [float(model.scores(users[at : at + 1]).std(dtype=np.float64)) for at in range(len(users))]
    spread = float(np.mean(spreads)) if spreads else 0.0
    return spread if spread > 0 else 1.0


def strongest(matrix: sp.csr_matrix, n_best: int) -> sp.csr_matrix:
    """The n_best entries of each row that are farthest from 0, ties by lower column; sorted indices."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -np.abs(matrix.data), rows))
    place = np.arange(len(order)) - matrix.indptr[:-1].repeat(np.diff(matrix.indptr))
    kept = np.sort(order[place < n_best])
    found = sp.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)
    found.sort_indices()
    return found
