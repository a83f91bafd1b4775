"""Bids whose fate is open, and what those were that won: impressions and their worth by line item."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, repeat

import numpy as np

from headrace.types import Float64, Int32, Int64
from headrace.v1 import bidder_pb2 as pb

MAX_OPEN = 1 << 18
"""Bids that are remembered; the fate of one that must go is taken to be its line item's usual one."""
COUNT, WORTH = 0, 1


class Wins:
    """Fates of bids. Not thread-safe: the engine calls it under its lock."""

    def __init__(self) -> None:
        # in the order of the bids, as dicts keep it; an OrderedDict costs thrice as much a bid
        self._open: dict[str, tuple[int, int, int]] = {}
        self._won: dict[int, list[float]] = {}
        self._delays: list[int] = []

    def placed(self, tokens: Sequence[str], accounts: Int32, value_cpm: Int64, now_ms: int) -> None:
        """Remember bids of line items' accounts for impressions of a value, CPM micros."""
        self._open.update(zip(tokens, zip(accounts.tolist(), value_cpm.tolist(), repeat(now_ms)), strict=True))

    def withdraw(self, tokens: Iterable[str]) -> None:
        """Forget bids that nobody was told of."""
        for token in tokens:
            self._open.pop(token, None)

    def heard(self, types: Sequence[int], tokens: Sequence[str], now_ms: int) -> None:
        """Count accepted notices: the first of a bid's says what became of it."""
        for kind, token in zip(types, tokens, strict=True):
            bid = self._open.pop(token, None)
            if bid is None or kind == pb.NOTICE_TYPE_LOSS:
                continue
            self._count(bid[0], 1.0, float(bid[1]))
            self._delays.append(max(now_ms - bid[2], 0))

    def take(self, line_of: Mapping[int, int], win_share: Float64) -> tuple[Float64, list[int]]:
        """What was won since the last call, (2, m) impressions and worth in nanos, and the delays of its notices, ms.

        line_of : account number to line item; wins of others are dropped.   win_share : (m,) of their bids that win.
        """
        for token in list(islice(self._open, max(len(self._open) - MAX_OPEN, 0))):
            account, value, _ = self._open.pop(token)
            share = float(win_share[line_of[account]]) if account in line_of else 0.0
            self._count(account, share, share * value)
        result = np.zeros((2, len(win_share)))
        for account, found in self._won.items():
            if account in line_of:
                result[:, line_of[account]] = found
        delays = self._delays
        self._won, self._delays = {}, []
        return result, delays

    def _count(self, account: int, n: float, worth: float) -> None:
        entry = self._won.setdefault(account, [0.0, 0.0])
        entry[COUNT] += n
        entry[WORTH] += worth
