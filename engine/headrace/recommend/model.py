"""One artifact ready to answer: its arrays in the shapes that the kernels want, its items and its people."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from headrace._native import FOLD_LANES, Blend, Links, Retriever, fold_in, fold_in_input
from headrace.artifact_format import release
from headrace.artifacts import Artifact
from headrace.events.log import EventLog
from headrace.kernels.history import Merged
from headrace.recommend.embeddings import Embeddings
from headrace.recommend.index import Lists, LiveIndex, native_lists
from headrace.state.items import ItemTable
from headrace.state.users import MAX_HISTORY, UserState
from headrace.types import Float32, Int32, Int64

CHUNK = 65_536
"""Items whose norms are computed before the memory of their factors is let go of."""


class Model:
    """A snapshot that never changes, but for the log's events and catalog, which its items and users follow.

    artifact : the arrays, mapped. log : the log that items and users follow.
    Attributes: ``live`` for search, ``gram`` for fold_in, ``embeddings`` of people's histories,
    ``inverse_norms`` (n_items,) float32 of the items' factors, 0 for an item without any, ``index`` the Faiss index or
    None, ``items``, ``users``.
    """

    def __init__(self, artifact: Artifact, log: EventLog, *, max_history: int = MAX_HISTORY) -> None:
        self.artifact = artifact
        self.version = artifact.version
        self.n_items = len(artifact.item_ids)
        self.live = LiveIndex(make_retriever(artifact), artifact.item_factors.shape[1])
        self.gram = _padded_gram(artifact)
        self.embeddings = Embeddings(self.gram, np.asarray(artifact.item_factors))
        self.index = _read_index(artifact)
        self.exclude_purchased = artifact.manifest.repeat_policy == "exclude_purchased"
        self.items = ItemTable(artifact.item_ids)
        self.users = UserState(artifact, log, self.items, max_history=max_history)
        self.inverse_norms = _inverse_norms(artifact)
        self.users.catch_up()

    @property
    def retriever(self) -> Retriever:
        """The search over the items of this moment."""
        return self.live.searcher

    def fold_in_input(self, merged: Merged) -> tuple[Int64, Int32, Float32]:
        """Row pointers, item rows and confidences of the people's histories as far as the artifact knows the items."""
        n, size = len(merged.n_events), len(merged.rows)
        indptr, rows = np.empty(n + 1, dtype=np.int64), np.empty(size, dtype=np.int32)
        confidences = np.empty(size, dtype=np.float32)
        fold_in_input(
            merged.indptr, merged.rows, merged.weights, merged.last_ms, self.n_items, self.artifact.manifest.alpha,
            self.users.max_history, indptr, rows, confidences,
        )  # fmt: skip
        return indptr, rows, confidences

    def fold_in(self, indptr: Int64, rows: Int32, confidences: Float32) -> Float32:
        """(n, d rounded up to FOLD_LANES) float32 factors of people from their histories; zeros for an empty one."""
        out = np.empty((len(indptr) - 1, len(self.gram)), dtype=np.float32)
        fold_in(self.gram, np.asarray(self.artifact.item_factors), indptr, rows, confidences, out)
        return out


def make_retriever(artifact: Artifact) -> Retriever:
    """The native search over an artifact's items; making it leaves no page of their factors in memory."""
    manifest = artifact.manifest
    return Retriever(
        np.asarray(artifact.item_factors),
        np.asarray(artifact.popular_order),
        np.asarray(artifact.popularity),
        manifest.repeat_boost,
        manifest.repeat_days,
        partial(release, artifact.item_factors),
        _blend(artifact),
        _lists(artifact),
    )


def _lists(artifact: Artifact) -> tuple[Float32, Int32, int, bool] | None:
    if artifact.manifest.index_type != "lists":
        return None
    return native_lists(Lists(artifact.index_centres, artifact.index_lists, artifact.manifest.index_probes))


def _blend(artifact: Artifact) -> Blend | None:
    terms = artifact.manifest.blend
    if not (terms.item_weight or terms.new_item_weight or terms.session_weight):
        return None
    items = (artifact.item_link_indptr, artifact.item_link_items, artifact.item_link_weights)
    session = (artifact.session_link_indptr, artifact.session_link_items, artifact.session_link_weights)
    blend = Blend(
        Links(*items),
        terms.item_weight,
        terms.new_item_weight,
        terms.power,
        terms.half_life_days,
        terms.length_power,
        Links(*session),
        terms.session_weight,
        terms.session_minutes * 60_000,
        np.asarray(artifact.session_decay),
    )
    for array in (*items, *session):
        release(array)
    return blend


def _inverse_norms(artifact: Artifact) -> Float32:
    factors = artifact.item_factors
    squares = np.empty(len(factors), dtype=np.float32)
    for first in range(0, len(factors), CHUNK):
        some = factors[first : first + CHUNK]
        np.einsum("ij,ij->i", some, some, out=squares[first : first + CHUNK])
        release(factors)
    norms = np.sqrt(squares, out=squares)
    return np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)


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
