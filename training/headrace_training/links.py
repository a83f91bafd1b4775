"""Sparse links between items, as artifacts store them: what goes with an item, and what comes after it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from headrace.events.columns import TrainingColumns
from headrace.types import Bool, Float32, Float64, Int32, Int64
from headrace_training.models.linear import LinearModel
from headrace_training.neighbours import keep_best, shrunk_cosine

MIN_TAKERS = 3
"""People who must have taken an item before it is linked: below, links are hearsay, and they are most of the work."""
KINDS = ("linear", "together", "both")
"""Coefficients of models.linear, shrunk cosine over days, and their sum, each with mean 1."""
REGRESSORS = 100
SHRINK_TOGETHER = 10.0
"""Common days that a cosine must stand against."""
MAX_LINKS = 20_000_000
"""Links in all, 160 MB: larger catalogues get fewer an item."""
MAX_LAG = 3
SHRINK = 5.0
"""Moves on that a share of moves must stand against."""


def links_an_item(n_items: int, wanted: int) -> int:
    """How many links each item gets."""
    return max(1, min(wanted, MAX_LINKS // max(1, n_items)))


def item_links(kind: str, taken: sp.csr_matrix, groups: sp.csr_matrix, n_links: int) -> sp.csr_matrix:
    """Links from items to what goes with them, of one of :data:`KINDS`.

    taken : (n_users, n_items), what is stored was taken by the person. groups : (n_groups, n_items), by one on one day.
    Returns (n_items, n_items) float32 CSR with at most n_links a row, the best ones, all > 0, none to the item itself.
    """
    if kind == "linear":
        return _linear(taken, n_links)
    if kind == "together":
        return shrunk_cosine(groups, n_links, SHRINK_TOGETHER)
    parts = [item_links(part, taken, groups, n_links) for part in ("linear", "together")]
    both = sum((part * np.float32(1.0 / part.data.mean()) for part in parts if part.nnz), sp.csr_matrix(parts[0].shape))
    return keep_best(sp.csr_matrix(both, dtype=np.float32), n_links)


def _linear(taken: sp.csr_matrix, n_links: int) -> sp.csr_matrix:
    ones = taken.copy()
    ones.data = np.ones_like(ones.data)
    known = np.bincount(ones.indices, minlength=ones.shape[1]) >= MIN_TAKERS
    ones = (ones @ sp.diags(known.astype(np.float32))).tocsr()
    ones.eliminate_zeros()
    if not ones.nnz:
        return sp.csr_matrix((ones.shape[1], ones.shape[1]), dtype=np.float32)
    model = LinearModel(n_neighbours=REGRESSORS)
    model.fit(ones)
    return keep_best(sp.csr_matrix(model.item_item), n_links)


class Moves(NamedTuple):
    """Events in order of person and time: ``order`` of the log's rows, and whether each begins a session; (n,)."""

    order: Int64
    begins: Bool


def sessions(events: TrainingColumns, used: Bool, gap_ms: int) -> Moves:
    """Sessions of one person end when nothing happens for ``gap_ms``; of the rows that are ``used``."""
    rows = np.flatnonzero(used)
    order = rows[np.lexsort((rows, events.times_ms[rows], events.user_idx[rows]))]
    users, times = events.user_idx[order], events.times_ms[order]
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (users[1:] != users[:-1]) | (times[1:] - times[:-1] > gap_ms)
    return Moves(order, begins)


def session_links(items: Int32, begins: Bool, n_items: int, n_links: int) -> sp.csr_matrix:
    """Share of the moves on from an item that go to another, in the same session, a move over lag l counting 1 / l.

    items, begins : of events as :func:`sessions` orders them. Returns (n_items, n_items) float32 CSR.
    """
    number = np.cumsum(begins)
    total = sp.csr_matrix((n_items, n_items), dtype=np.float64)
    for lag in range(1, MAX_LAG + 1):
        same = (number[lag:] == number[:-lag]) & (items[lag:] != items[:-lag])
        weights = np.full(int(same.sum()), 1.0 / lag)
        total = total + sp.csr_matrix((weights, (items[:-lag][same], items[lag:][same])), shape=total.shape)
    moves: Float64 = np.asarray(total.sum(axis=1)).ravel()
    return keep_best((sp.diags(1.0 / (moves + SHRINK)) @ total).tocsr().astype(np.float32), n_links)


def link_arrays(kind: str, links: sp.csr_matrix) -> dict[str, Int64 | Int32 | Float32]:
    """Arrays of an artifact, by name."""
    parts = {"indptr": links.indptr.astype(np.int64), "items": links.indices, "weights": links.data}
    return {f"{kind}_link_{part}": array for part, array in parts.items()}
