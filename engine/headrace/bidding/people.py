"""Persons as the probability model wants them: their history, and their factors folded in from it."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from headrace.kernels.predict import Persons
from headrace.recommend.model import Model
from headrace.types import Float32, Int32, Int64

CACHED = 16_384
"""Embeddings remembered; at 50 events and 64 factors some 700 bytes each."""


class KnownPeople:
    """Reads persons of one recommendation model.

    Embeddings are remembered by the very history that they were folded in from, so a remembered one is never stale.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, bytes], Float32] = OrderedDict()

    def read(self, names: Sequence[str], now_ms: int) -> Persons:
        """The persons of n names, strangers included; see `headrace.bidding.predict.PersonReader`."""
        people = self._model.users.gather(names, now_ms)
        indptr, rows, confidences = self._model.fold_in_input(people.merged)
        return Persons(self._embed(indptr, rows, confidences), people.merged, people.banned)

    def find_item(self, item_id: str) -> int:
        """The row of an item, -1 when neither the artifact nor the log knows it."""
        return self._model.items.row_of_id.get(item_id, -1)

    def _embed(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        bounds = indptr.tolist()
        keys = [
            (rows[start:end].tobytes(), confidences[start:end].tobytes()) for start, end in itertools.pairwise(bounds)
        ]
        with self._lock:
            found = [self._known.get(key) for key in keys]
        missing = [i for i, embedding in enumerate(found) if embedding is None]
        if missing:
            for i, embedding in zip(missing, self._fold_in(missing, bounds, rows, confidences), strict=True):
                found[i] = embedding
        self._remember(keys, found)
        return np.stack([embedding for embedding in found if embedding is not None])

    def _fold_in(self, missing: list[int], bounds: list[int], rows: Int32, confidences: Float32) -> Float32:
        parts = [slice(bounds[i], bounds[i + 1]) for i in missing]
        indptr = np.cumsum([0, *(part.stop - part.start for part in parts)])
        return self._model.fold_in(
            indptr.astype(np.int64),
            np.concatenate([rows[part] for part in parts]),
            np.concatenate([confidences[part] for part in parts]),
        )

    def _remember(self, keys: Sequence[tuple[bytes, bytes]], embeddings: Sequence[Float32 | None]) -> None:
        with self._lock:
            for key, embedding in zip(keys, embeddings, strict=True):
                if embedding is not None:
                    self._known[key] = embedding
                    self._known.move_to_end(key)
            while len(self._known) > CACHED:
                self._known.popitem(last=False)
