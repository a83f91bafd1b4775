"""Values of line items brought together by campaign."""

from __future__ import annotations

import numpy as np

from headrace.bidding.board import Board
from headrace.kernels.plans import with_campaigns
from headrace.types import Float64


class Tree:
    """The m line items of a board under its k campaigns."""

    def __init__(self, board: Board) -> None:
        self.n_lines, self.n_campaigns = board.n_lines, len(board.campaigns)
        self._indptr = board.campaign_indptr
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
