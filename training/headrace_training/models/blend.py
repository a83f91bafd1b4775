"""The graph filter and iALS together: neighbours see the rare, factors the general."""

from __future__ import annotations

from typing import ClassVar

import scipy.sparse as sp

from headrace.types import Float32, Int32
from headrace_training.models.base import Parameters
from headrace_training.models.graph import GraphModel, add_scaled
from headrace_training.models.ials import IalsModel
from headrace_training.space import Real, Space, prefixed


class BlendModel:
    """Sum of both scores, each scaled to standard deviation 1 a user.

    ials_weight : weight of the iALS scores; the graph filter's is 1.
    """

    name = "blend"
    space: ClassVar[Space] = {
        "ials_weight": Real(0.1, 5.0, log=True),
        **prefixed("graph", GraphModel.space),
        **prefixed("ials", IalsModel.space),
    }

    def __init__(
        self, ials_weight: float = 1.5, graph: GraphModel | None = None, ials: IalsModel | None = None, seed: int = 0
    ) -> None:
        self.ials_weight = ials_weight
        self.graph = graph or GraphModel(low_pass=0.0, seed=seed)
        self.ials = ials or IalsModel(seed=seed)

    @property
    def parameters(self) -> Parameters:
        graph: Parameters = {f"graph.{name}": value for name, value in self.graph.parameters.items()}
        ials: Parameters = {f"ials.{name}": value for name, value in self.ials.parameters.items()}
        return {"ials_weight": self.ials_weight, **graph, **ials}

    @property
    def n_items(self) -> int:
        return self.graph.n_items

    def memory_bytes(self, train: sp.csr_matrix) -> int:
        """About what fitting takes beside train: both parts, one after the other."""
        return sum(part.memory_bytes(train) for part in (self.graph, self.ials))

    def fit(self, train: sp.csr_matrix) -> None:
        self.graph.fit(train)
        self.ials.fit(train)

    def scores(self, users: Int32) -> Float32:
        return add_scaled(self.graph.scores(users), self.ials.scores(users), self.ials_weight)
