"""One artifact ready to answer: its arrays in the shapes that the kernels want, its items and its people."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from headrace._native import FOLD_LANES, Retriever, fold_in
from headrace.artifacts import Artifact
from headrace.events.log import EventLog
from headrace.kernels.history import Merged, fold_in_input
from headrace.recommend.embeddings import Embeddings
from headrace.state.items import ItemTable
from headrace.state.users import MAX_HISTORY, UserState
from headrace.types import Float32, Int32, Int64

CHUNK = 16_384
"""Items whose norms are computed at once."""


class Model:
    """A snapshot that never changes, but for the log's events and catalog, which its items and users follow.

    artifact : the arrays, mapped. log : the log that items and users follow.
    Attributes: ``retriever`` for search, ``gram`` for fold_in, ``embeddings`` of people's histories,
    ``index`` the Faiss index or None, ``items``, ``users``.
    """

    def __init__(self, artifact: Artifact, log: EventLog, *, max_history: int = MAX_HISTORY) -> None:
        self.artifact = artifact
        self.version = artifact.version
        self.n_items = len(artifact.item_ids)
        self.retriever = make_retriever(artifact)
        self.gram = _padded_gram(artifact)
        # not a method of its own, which would keep the model alive until a collection of garbage finds the cycle
        self.embeddings = Embeddings(partial(_fold_in, self.gram, artifact.item_factors))
        self.index = _read_index(artifact)
        self.exclude_purchased = artifact.manifest.repeat_policy == "exclude_purchased"
        self.items = ItemTable(artifact.item_ids)
        self.users = UserState(artifact, log, self.items, max_history=max_history)
        self._inverse_norms: Float32 | None = None
        self.users.catch_up()

    def fold_in_input(self, merged: Merged) -> tuple[Int64, Int32, Float32]:
        """Row pointers, item rows and confidences of the people's histories as far as the artifact knows the items."""
        n, size = len(merged.n_events), len(merged.rows)
        indptr, rows = np.zeros(n + 1, dtype=np.int64), np.empty(size, dtype=np.int32)
        confidences = np.empty(size, dtype=np.float32)
        alpha = np.float32(self.artifact.manifest.alpha)
        fold_in_input(merged, self.n_items, alpha, self.users.max_history, indptr, rows, confidences)
        return indptr, rows, confidences

    def fold_in(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        """(n, d rounded up to FOLD_LANES) float32 factors of people from their histories; zeros for an empty one."""
        return _fold_in(self.gram, np.asarray(self.artifact.item_factors), indptr, rows, confidences)

    def inverse_norms(self) -> Float32:
        """(n_items,) float32: 1 / |factors|, 0 for an item without any; made on first use."""
        if self._inverse_norms is None:
            factors = self.artifact.item_factors
            norms = np.empty(self.n_items, dtype=np.float32)
            # some rows at a time: the squares need no memory of the size of the whole
            for first in range(0, self.n_items, CHUNK):
                norms[first : first + CHUNK] = np.linalg.norm(factors[first : first + CHUNK], axis=1)
            self._inverse_norms = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
        return self._inverse_norms


def make_retriever(artifact: Artifact) -> Retriever:
    """The native search over an artifact's items."""
    manifest = artifact.manifest
    return Retriever(
        np.asarray(artifact.item_factors),
        np.asarray(artifact.popular_order),
        np.asarray(artifact.popularity),
        manifest.repeat_boost,
        manifest.repeat_days,
    )


def _fold_in(gram: Float32, factors: Float32, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
    out = np.empty((len(indptr) - 1, len(gram)), dtype=np.float32)
    fold_in(gram, factors, indptr, rows, confidences, out)
    return out


def _padded_gram(artifact: Artifact) -> Float32:
    d = len(artifact.gram)
    gram = np.eye(d + -d % FOLD_LANES, dtype=np.float32)
    gram[:d, :d] = artifact.gram + np.float32(artifact.manifest.regularization) * np.eye(d, dtype=np.float32)
    return gram


def _read_index(artifact: Artifact) -> Any:
    if artifact.index_path is None:
        return None
    import faiss  # a third of a second that exact search need not pay

    return faiss.read_index(str(artifact.index_path))
