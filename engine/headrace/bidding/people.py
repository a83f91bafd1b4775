"""Persons as the probability model wants them: their history, and their factors folded in from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.kernels.predict import Persons
from headrace.recommend.model import Model


class KnownPeople:
    """Reads persons of one recommendation model."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def read(self, names: Sequence[str], now_ms: int) -> Persons:
        """The persons of n names, strangers included; see `headrace.bidding.predict.PersonReader`."""
        people = self._model.users.gather(names, now_ms)
        vectors = self._model.embeddings.of(*self._model.fold_in_input(people.merged))
        embeddings = np.ascontiguousarray(vectors[:, : self._model.artifact.item_factors.shape[1]])
        keys = np.array(people.subject_keys, np.int64)
        return Persons(embeddings, people.merged, people.banned, keys, people.sequence)

    def find_item(self, item_id: str) -> int:
        """The row of an item, -1 when neither the artifact nor the log knows it."""
        return self._model.items.rows.find(item_id)
