"""Compiling, or loading from the cache, every kernel that an answer can need."""

from __future__ import annotations

import numpy as np

from headrace.kernels.history import Arena, append_events, repack
from headrace.kernels.topk import top_scores
from headrace.recommend.model import Model
from headrace.recommend.retrieve import Wanted, retrieve
from headrace.recommend.similar import similar
from headrace.state.users import People, new_arena, with_session
from headrace.types import Int32


def warm_arena() -> Arena:
    """Run the kernels that need no model; returns an arena with the history of one person."""
    arena, one = new_arena(16, 1), np.zeros(1, dtype=np.int32)
    append_events(
        arena, one, one, np.full(1, 3, dtype=np.int8), np.ones(1, dtype=np.float32), np.ones(1, dtype=np.int64), 1
    )
    repack(arena, new_arena(16, 1))
    return arena


def warm(model: Model) -> None:
    """Run each kernel once on the model's own arrays, since kernels are compiled for read-only memory apart."""
    if not model.n_items:
        return
    one = np.zeros(1, dtype=np.int32)
    arena = warm_arena()
    banned = np.zeros(model.n_items, dtype=np.uint32)
    nobody = np.full(2, -1, dtype=np.int32)
    with model.users.lock:
        merged = model.users.merge(nobody, np.array([0, -1], dtype=np.int32), arena)
    merged = with_session(merged, np.array([0, 1, 1], dtype=np.int64), one, 1.0, 1)
    retrieve(model, People(merged, 0, [0, 0], banned, model.n_items, 1), _wanted(one))
    # no neighbours and no factors: what fills a slate of popular items, without a pass over all factors
    similar(model, model.n_items, 1, banned)
    top_scores(
        np.zeros(1, dtype=np.float32), banned, 0, (one, np.zeros(1, dtype=np.float32), np.zeros(1, dtype=np.int32))
    )


def _wanted(one: Int32) -> Wanted:
    return Wanted(
        limits=np.ones(2, dtype=np.int32),
        exclude_purchased=np.ones(2, dtype=np.int8),
        excluded_indptr=np.array([0, 1, 1], dtype=np.int64),
        excluded_rows=one,
        session_indptr=np.zeros(3, dtype=np.int64),
        session_rows=one[:0],
    )
