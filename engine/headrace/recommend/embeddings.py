"""People's factors, remembered by the history that they were folded in from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from headrace.types import Float32, Int32, Int64

REMEMBERED = 16_384
"""Embeddings kept, the least recently used give way; at 50 items and 64 factors some 700 bytes each."""


class Embeddings:
    """Folds in each history once, whoever asks for it: a recommendation or a bid.

    The key is the very input of the fold-in, so what is remembered is never stale, and equal to the bit.

    fold_in : of headrace.recommend.model.Model.
    """

    def __init__(self, fold_in: Callable[[Int64, Int32, Float32], Float32]) -> None:
        self._fold_in = fold_in
        self._lock = threading.Lock()
        self._places: OrderedDict[bytes, int] = OrderedDict()
        self._table: Float32 | None = None

    def of(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        """(n, w) float32 factors of n people; arguments as for fold_in."""
        keys = _keys(indptr, rows, confidences)
        with self._lock:
            places = [self._places.get(key, -1) for key in keys]
            missing = [i for i, place in enumerate(places) if place < 0]
            if not missing:
                assert self._table is not None
                for key in keys:
                    self._places.move_to_end(key)
                return self._table[places]
            kept = None if self._table is None else self._table[places]
        if kept is None or len(missing) == len(keys):
            embeddings = fresh = self._fold_in(indptr, rows, confidences)
        else:
            spans = [slice(indptr[i], indptr[i + 1]) for i in missing]
            starts = np.cumsum([0, *(span.stop - span.start for span in spans)], dtype=np.int64)
            some = (np.concatenate([column[span] for span in spans]) for column in (rows, confidences))
            embeddings, fresh = kept, self._fold_in(starts, *some)
            embeddings[missing] = fresh
        with self._lock:
            self._remember([keys[i] for i in missing], fresh)
        return embeddings

    def _remember(self, keys: list[bytes], fresh: Float32) -> None:
        if self._table is None:
            self._table = np.empty((REMEMBERED, fresh.shape[1]), dtype=np.float32)
        for key, embedding in zip(keys, fresh, strict=True):
            if key in self._places:
                continue
            place = len(self._places)
            if place == len(self._table):
                place = self._places.popitem(last=False)[1]
            self._table[place] = embedding
            self._places[key] = place


def _keys(indptr: Int64, rows: Int32, confidences: Float32) -> list[bytes]:
    row_bytes, confidence_bytes = rows.tobytes(), confidences.tobytes()
    spans = pairwise(indptr.tolist())
    return [row_bytes[4 * first : 4 * last] + confidence_bytes[4 * first : 4 * last] for first, last in spans]
