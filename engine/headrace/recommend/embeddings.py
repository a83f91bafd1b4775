"""People's factors, remembered by the history that they were folded in from."""

from __future__ import annotations

import numpy as np

from headrace import _native
from headrace.types import Float32, Int32, Int64

REMEMBERED = 16_384
"""Embeddings kept, the least recently used give way; at 50 items and 64 factors some 800 bytes each."""


class Embeddings:
    """Folds in each history once, whoever asks for it: a recommendation or a bid. Any thread may ask.

    The key is the very input of the fold-in, so what is remembered is never stale, and equal to the bit.

    gram : (w, w) float32 of headrace.recommend.model.Model. items : (n_items, d) float32 factors.
    remembered : histories kept.
    """

    def __init__(self, gram: Float32, items: Float32, remembered: int = REMEMBERED) -> None:
        self._width = len(gram)
        self._native = _native.Embeddings(gram, items, remembered)

    @property
    def n_folded(self) -> int:
        """How many histories were not remembered when they were asked for."""
        return self._native.n_folded

    def of(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        """(n, w) float32 factors of n people; arguments as for fold_in."""
        out = np.empty((len(indptr) - 1, self._width), dtype=np.float32)
        self._native.of(indptr, rows, confidences, out)
        return out
