"""What a finished artifact serves, as a model."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from headrace.artifacts import Artifact
from headrace.types import Float32, Int32
from headrace_training.history import History, type_weights
from headrace_training.models.base import Parameters
from headrace_training.models.product import FactorProduct
from headrace_training.probability import Moment
from headrace_training.slate import Extras, Repeat, served_model


class ArtifactModel:
    """The stored factors with the blend and the lifts; ``train`` holds the items of each person's stored history.

    only_new : whether scores are those of slates without what was bought before.
    """

    def __init__(self, artifact: Artifact, *, only_new: bool = True) -> None:
        self.artifact = artifact
        manifest, history = artifact.manifest, stored_history(artifact)
        self.name = str(manifest.parameters.get("model", "ials"))
        self.train = history.taken()
        n_items = len(artifact.item_ids)
        links = (artifact.item_link_weights, artifact.item_link_items, artifact.item_link_indptr)
        moment = Moment(
            now_ms=manifest.trained_until_ms,
            history=history,
            user_factors=np.asarray(artifact.user_factors),
            item_factors=np.asarray(artifact.item_factors),
            popularity=np.asarray(artifact.popularity),
            purchase_weight=manifest.event_weights["purchase"],
        )
        extras = Extras(
            Repeat(manifest.repeat_boost, manifest.repeat_days),
            manifest.blend,
            sp.csr_matrix(links, shape=(n_items, n_items)) if len(links[2]) else None,
        )
        self._served = served_model(moment, extras, only_new=only_new)

    @property
    def parameters(self) -> Parameters:
        return {"version": self.artifact.version, **self.artifact.manifest.parameters}

    @property
    def n_items(self) -> int:
        return len(self.artifact.item_ids)

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("an artifact is fitted already")

    def product(self) -> FactorProduct | None:
        return self._served.product()

    def scores(self, users: Int32) -> Float32:
        return self._served.scores(users)


def stored_history(artifact: Artifact) -> History:
    """The histories of an artifact; of a type without a weight there are none."""
    types, weights = np.array(artifact.history_types), np.array(artifact.history_weights)
    units = type_weights(artifact.manifest.event_weights)[types]
    return History(
        indptr=np.array(artifact.history_indptr),
        items=np.array(artifact.history_items),
        types=types,
        counts=np.divide(weights, units, out=np.zeros(len(weights)), where=units > 0),
        weights=weights,
        times_ms=np.array(artifact.history_times_ms),
        n_items=len(artifact.item_ids),
    )
