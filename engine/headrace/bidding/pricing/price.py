"""What impressions cost, from the price landscapes of an artifact."""

from __future__ import annotations

import numpy as np

from headrace.errors import ArtifactCorruptError
from headrace.kernels.price import Market
from headrace.types import Float64, Int64

PRIOR_AUCTIONS = 1.0
"""Weight, in auctions, of "every bin is as likely", so that an empty landscape says something."""
SHARED_AUCTIONS = 50.0
"""Weight, in auctions, of all exchanges together in the landscape of one."""


def make_market(edges_cpm: Int64, counts: Float64) -> Market:
    """Win rates from counts of market prices.

    edges_cpm : (b + 1,) int64, strictly ascending, CPM micros.
    counts : (x, b) float64, >= 0; row 0 is all exchanges together.

    Raises ArtifactCorruptError when the edges do not ascend, or a count is none.
    """
    if len(edges_cpm) < 2 or np.any(np.diff(edges_cpm) <= 0):
        raise ArtifactCorruptError("landscape_edges_cpm do not ascend", hint="train again or roll back")
    if not np.isfinite(counts).all() or np.any(counts < 0.0):
        raise ArtifactCorruptError("landscape_counts are negative or no numbers", hint="train again or roll back")
    n_bins = len(edges_cpm) - 1
    shares = np.empty((len(counts), n_bins), np.float64)
    for row, seen in enumerate(counts):
        prior = np.full(n_bins, PRIOR_AUCTIONS / n_bins) if row == 0 else SHARED_AUCTIONS * shares[0]
        shares[row] = (seen + prior) / (seen.sum() + prior.sum())
    win_rate = np.zeros((len(counts), n_bins + 1), np.float64)
    win_rate[:, 1:] = np.minimum(np.cumsum(shares, axis=1), 1.0)
    return Market(edges_cpm=np.asarray(edges_cpm, np.float64), win_rate=win_rate)
