"""People's factors, remembered by the history that they were folded in from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from headrace.types import Float32, Int32, Int64

REMEMBERED = 16_384
"""Embeddings kept, the least recently used give way; at 50 items and 64 factors some 700 bytes each."""

_Key = tuple[bytes, bytes]


class Embeddings:
    """Folds in each history once, whoever asks for it: a recommendation or a bid.

    The key is the very input of the fold-in, so what is remembered is never stale, and equal to the bit.

    fold_in : of headrace.recommend.model.Model.
    """

    def __init__(self, fold_in: Callable[[Int64, Int32, Float32], Float32]) -> None:
        self._fold_in = fold_in
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Float32] = OrderedDict()

    def of(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        """(n, w) float32 factors of n people; arguments as for fold_in."""
        spans = [slice(first, last) for first, last in pairwise(indptr.tolist())]
        keys = [(rows[span].tobytes(), confidences[span].tobytes()) for span in spans]
        with self._lock:
            found = [self._known.get(key) for key in keys]
        missing = [i for i, embedding in enumerate(found) if embedding is None]
        if len(missing) == len(found):
            embeddings = self._fold_in(indptr, rows, confidences)
        else:
            if missing:
                starts = np.cumsum([0, *(spans[i].stop - spans[i].start for i in missing)], dtype=np.int64)
                some = (np.concatenate([column[spans[i]] for i in missing]) for column in (rows, confidences))
                for i, embedding in zip(missing, self._fold_in(starts, *some), strict=True):
                    found[i] = embedding
            embeddings = np.array(found)
        self._remember(keys, embeddings, frozenset(missing))
        return embeddings

    def _remember(self, keys: Sequence[_Key], embeddings: Float32, fresh: frozenset[int]) -> None:
        with self._lock:
            for i, key in enumerate(keys):
                if i in fresh:
                    # a row of a batch's array would keep the whole array alive
                    self._known[key] = embeddings[i].copy()
                if key in self._known:
                    self._known.move_to_end(key)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
