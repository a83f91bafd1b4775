"""Values of line items brought together by campaign."""

from __future__ import annotations

import numpy as np

from headrace.bidding.board import Board
from headrace.kernels.plans import with_campaigns
from headrace.types import Float64, Int64

LEAST_WEIGHT = 1e-6


class Tree:
    """The m line items of a board under its k campaigns."""

    def __init__(self, board: Board) -> None:
        self.n_lines, self.n_campaigns = board.n_lines, len(board.campaigns)
        self._indptr, self._campaign_of = board.campaign_indptr, board.campaign_of
        self._some = np.diff(self._indptr) > 0
        self._starts = self._indptr[:-1][self._some]

    def nodes(self, of_lines: Float64) -> Float64:
        """(m + k,) values of line items, then their sums by campaign."""
        result = np.empty(self.n_lines + self.n_campaigns)
        with_campaigns(self._indptr, of_lines, result)
        return result

    def campaigns(self, of_lines: Float64, how: np.ufunc) -> Float64:
        """(k,) values brought together in another way; 0 for a campaign without line items."""
        result = np.zeros(self.n_campaigns)
        if len(self._starts):
            result[self._some] = how.reduceat(of_lines, self._starts)
        return result

    def others(self, of_lines: Float64, weight: Float64, lines: Int64) -> Float64:
        """(n, ...) weighted means of the other line items of some line items' campaigns; 0 where these weigh nothing.

        of_lines : (m, ...).   weight : (m,).   lines : (n,) positions.
        """
        weighted = (of_lines.T * weight).T
        of = np.cumsum(self._some)[self._campaign_of[lines]] - 1
        left = np.maximum(np.add.reduceat(weight, self._starts)[of] - weight[lines], 0.0)
        sums = np.add.reduceat(weighted, self._starts, axis=0)[of] - weighted[lines]
        result: Float64 = (sums.T / np.where(left > LEAST_WEIGHT, left, np.inf)).T
        return result


def keys_of(board: Board) -> list[tuple[str, str]]:
    """Names of a board's line items and then of its campaigns: campaign_id, line_item_id or nothing."""
    lines = [
        (board.campaigns[owner].campaign_id, line.line_item_id)
        for owner, line in zip(board.campaign_of, board.line_items, strict=True)
    ]
    return lines + [(campaign.campaign_id, "") for campaign in board.campaigns]
