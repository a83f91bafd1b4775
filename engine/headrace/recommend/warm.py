"""Compiling, or loading from the cache, every kernel that an answer can need."""

from __future__ import annotations

import numpy as np

from headrace.kernels.history import append_events, repack
from headrace.recommend.model import Model
from headrace.recommend.retrieve import Wanted, retrieve
from headrace.recommend.similar import similar
from headrace.state.users import People, new_arena
from headrace.types import Int32


def warm(model: Model) -> None:
    """Run each kernel once on the model's own arrays, since kernels are compiled for read-only memory apart."""
    if not model.n_items:
        return
    one = np.zeros(1, dtype=np.int32)
    arena = new_arena(16, 1)
    append_events(
        arena, one, one, np.full(1, 3, dtype=np.int8), np.ones(1, dtype=np.float32), np.ones(1, dtype=np.int64), 1
    )
    repack(arena, new_arena(16, 1))
    banned = np.zeros(model.n_items, dtype=np.uint32)
    nobody = np.full(2, -1, dtype=np.int32)
    with model.users.lock:
        merged = model.users.merge(nobody, np.array([0, -1], dtype=np.int32), arena)
    retrieve(model, People(merged, 0, [0, 0], banned, model.n_items), _wanted(one))
    similar(model, 0, 1, banned)


def _wanted(one: Int32) -> Wanted:
    return Wanted(
        limits=np.ones(2, dtype=np.int32),
        exclude_purchased=np.ones(2, dtype=np.int8),
        excluded_indptr=np.array([0, 1, 1], dtype=np.int64),
        excluded_rows=one,
    )
