"""Purchases that follow won impressions, reported to the bidder some time later."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from headrace.bidding.actions import name_of
from headrace.decisions.batch import Action
from headrace.simulate.loading import Plan
from headrace.simulate.market import HOUR_MS, PURCHASES, Auctions, stream
from headrace.types import Bool, Int32, Int64


class Purchases:
    """Keeps purchases until they are reported; nothing is kept where the scenario reports none."""

    def __init__(self, plan: Plan, auctions: Auctions) -> None:
        hours = plan.scenario.purchase_delay_hours
        self._delay_ms = None if hours is None else hours * HOUR_MS
        self._auctions = auctions
        self._delay = stream(plan.scenario, PURCHASES, 1).standard_exponential(len(auctions.luck), np.float32)
        self._really = np.array([plan.scenario.values[key].really for key in plan.keys])
        self._waiting: list[tuple[int, int, str]] = []

    def follow(self, rows: Int64, lines: Int32, won: Bool, tokens: Sequence[str | None]) -> None:
        """Impressions were shown, of these line items where won; tokens of their bids."""
        if self._delay_ms is None or not won.any():
            return
        shown = [token for token, is_won in zip(tokens, won.tolist(), strict=True) if is_won and token is not None]
        rows, lines = rows[won], lines[won]
        chance = self._auctions.probability[rows, lines] * self._really[lines]
        for place in np.flatnonzero(self._auctions.luck[rows] < chance).tolist():
            row = int(rows[place])
            due = int(self._auctions.time_ms[row] + self._delay_ms * float(self._delay[row]))
            heapq.heappush(self._waiting, (due, row, shown[place]))

    def reported(self, now_ms: int) -> list[Action]:
        """Purchases whose report has arrived by a moment, oldest first; each is handed out once."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_ms:
            due, row, token = heapq.heappop(self._waiting)
            found.append(Action(name_of(f"purchase {row}"), token, due, 1, 0))
        return found
