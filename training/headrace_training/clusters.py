"""Items in clusters: centres by k-means on a sample, and each item's nearest centre, found exactly."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse as sp

from headrace.recommend.index import make_searcher, search
from headrace.types import Float32, Int32

ITERATIONS = 8
SAMPLE = 64
"""Items a centre that k-means looks at."""
SLICE = 65_536
LENGTH_COLUMNS = 16
"""Columns that a centre's length is spread over, so that none is much larger than the others."""


def k_means(items: Float32, n_lists: int, *, seed: int = 0, n_threads: int = 1) -> Float32:
    """(n_lists, d) float32 centres of the items, by Lloyd's rounds over a sample that starts them, too.

    items : (n_items, d) float32, n_items at least n_lists. The result does not depend on the number of threads.
    """
    rng = np.random.default_rng(seed)
    size = min(len(items), SAMPLE * n_lists)
    sample = items[np.sort(rng.choice(len(items), size, replace=False, shuffle=False))]
    centres = sample[np.sort(rng.choice(size, n_lists, replace=False, shuffle=False))]
    for _ in range(ITERATIONS):
        members = nearest(sample, centres, n_threads=n_threads)
        counts = np.bincount(members, minlength=n_lists)
        one = np.ones(size, dtype=np.float32)
        sums = sp.csr_matrix((one, members, np.arange(size + 1)), shape=(size, n_lists)).T @ sample
        held = counts > 0  # a centre that lost its items stays where it is
        centres[held] = sums[held] / counts[held, None]
    return centres


def nearest(items: Float32, centres: Float32, *, n_threads: int = 1) -> Int32:
    """Each item's nearest centre, the lower one of equals, (n_items,) int32.

    That is the centre c of greatest x.c - |c|^2 / 2: an exact search over centres with columns for their length.
    """
    unit = 1.0 / max(float(np.sqrt(np.mean(np.square(centres, dtype=np.float64)))), 1e-30)
    scaled = centres.astype(np.float64) * unit
    lengths = -0.5 / LENGTH_COLUMNS * np.einsum("ij,ij->i", scaled, scaled)
    spread = np.repeat(lengths[:, None], LENGTH_COLUMNS, axis=1)
    searcher = make_searcher(np.concatenate([scaled, spread], axis=1).astype(np.float32))
    out = np.empty(len(items), dtype=np.int32)

    def work(first: int) -> None:
        some = items[first : first + SLICE]
        queries = np.ones((len(some), searcher_width), dtype=np.float32)
        np.multiply(some, np.float32(unit), out=queries[:, : items.shape[1]])
        out[first : first + SLICE] = search(searcher, queries, 1).rows[:, 0]

    searcher_width = items.shape[1] + LENGTH_COLUMNS
    with ThreadPoolExecutor(n_threads) as executor:
        list(executor.map(work, range(0, len(items), SLICE)))
    return out
