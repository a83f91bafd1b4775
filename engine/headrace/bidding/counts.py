"""Counts of what was decided and settled."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import numpy as np

from headrace.bidding.board import Board
from headrace.counters import Counts
from headrace.types import Int8, Int32, Int64

N_REASONS = 32
"""Room for the no-bid reasons of bidder.proto."""


class BidCounts:
    """Decisions by reason, and the money of the bids by currency; any thread may add.

    Attribute ``reasons`` counts impressions by no-bid reason, 0 where there was a bid.
    """

    def __init__(self) -> None:
        self.reasons = Counts(N_REASONS)
        self._lock = threading.Lock()
        self._offered: dict[str, int] = {}
        self._given_up: dict[str, list[float]] = {}

    def add(self, board: Board, reasons: Int8, lines: Int32, bid_cpm: Int64) -> None:
        """Count i impressions; columns as in `engine.Decisions`."""
        self.reasons.add(reasons)
        total = sum(bid_cpm.tolist())
        if not total:
            return
        if len(board.currencies) == 1:
            self._offer(next(iter(board.currencies)), total)
            return
        for row in np.flatnonzero(bid_cpm).tolist():
            campaign = board.campaigns[board.campaign_of[lines[row]]]
            self._offer(campaign.currency, int(bid_cpm[row]))

    def add_explored(self, board: Board, lines: Int32, given_up: Mapping[int, float]) -> None:
        """Count bids that were drawn; given_up : surplus given up by impression, CPM micros. Others are passed over."""
        for row, cpm in given_up.items():
            if lines[row] >= 0:
                currency = board.campaigns[board.campaign_of[lines[row]]].currency
                with self._lock:
                    counts = self._given_up.setdefault(currency, [0, 0.0])
                    counts[0] += 1
                    counts[1] += cpm / 1000.0

    def explored(self) -> dict[str, tuple[int, int]]:
        """Bids that were drawn, and micros of expected surplus that they gave up, by currency."""
        with self._lock:
            return {currency: (int(n), int(micros)) for currency, (n, micros) in self._given_up.items()}

    def offered_micros(self) -> dict[str, int]:
        """Micros of all bids by currency: what they would cost if each won at its own price."""
        with self._lock:
            return {currency: total // 1000 for currency, total in self._offered.items()}

    def _offer(self, currency: str, total_cpm: int) -> None:
        with self._lock:
            self._offered[currency] = self._offered.get(currency, 0) + total_cpm
