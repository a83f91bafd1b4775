"""Items that go with an item: bought by the same people, then near it in the factors."""

from __future__ import annotations

import numpy as np

from headrace.kernels.topk import take_allowed, top_scores
from headrace.recommend.model import Model
from headrace.types import Float32, Int32, UInt32


def similar(model: Model, row: int, limit: int, banned: UInt32) -> tuple[Int32, Float32]:
    """At most ``limit`` rows with scores: co-purchase neighbours at 1 + weight, then cosines, then 0.

    row : of the item table; one beyond the artifact has neither neighbours nor factors, so popular items fill.
    banned : (n_rows,) uint32, bit 0; the item itself must be banned. Changed in place.
    """
    rows = np.full(limit, -1, dtype=np.int32)
    scores = np.zeros(limit, dtype=np.float32)
    count = 0
    if row < model.n_items:
        count = _neighbours(model, row, banned, rows, scores)
        count += _cosines(model, row, banned, rows[count:], scores[count:])
    first = count
    if count < limit:
        banned[rows[:count]] = 1
        count = take_allowed(model.artifact.popular_order, banned, 0, rows, count)
        banned[rows[first:count]] = 1
        extras = np.arange(model.n_items, len(banned), dtype=np.int32)
        count = take_allowed(extras, banned, 0, rows, count)
    return rows[:count], scores[:count]


def _neighbours(model: Model, row: int, banned: UInt32, rows: Int32, scores: Float32) -> int:
    artifact = model.artifact
    span = slice(artifact.neighbour_indptr[row], artifact.neighbour_indptr[row + 1])
    neighbours, weights = artifact.neighbour_items[span], artifact.neighbour_weights[span]
    shown = np.flatnonzero(banned[neighbours] & np.uint32(1) == 0)[: len(rows)]
    count = len(shown)
    rows[:count] = neighbours[shown]
    scores[:count] = 1.0 + weights[shown]
    banned[rows[:count]] = 1
    return count


def _cosines(model: Model, row: int, banned: UInt32, rows: Int32, scores: Float32) -> int:
    norms = model.inverse_norms
    if not len(rows) or norms[row] == 0.0:
        return 0
    factors = model.artifact.item_factors
    # One product of fixed shape a query: nothing of it depends on other calls.
    cosines = (factors @ (factors[row] * norms[row])) * norms
    counts = np.zeros(1, dtype=np.int32)
    top_scores(cosines, banned, 0, (rows, scores, counts))
    return int(counts[0])
