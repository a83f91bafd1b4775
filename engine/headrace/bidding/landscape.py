"""What impressions cost lately: the artifact's landscape, moved by the fate of our own bids.

A loss says only that the price was above the bid, and a win at first price only that it was not; such a bid is spread
over the bins that it leaves open in proportion to what is already there (the self-consistency of Efron, "The two
sample problem with censored data", 1967, taken one observation at a time).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from headrace.kernels.pace import FIRST_OCTAVE, N_VALUE_BINS, STEPS_PER_OCTAVE, value_bin
from headrace.kernels.price import Market, expected_costs
from headrace.types import Float64
from headrace.v1 import bidder_pb2 as pb

TRUSTED_AUCTIONS = 100.0
"""Weight of the artifact's landscape, in auctions."""
REMEMBERED_AUCTIONS = 2_000.0
"""Beyond this weight everything counts half."""
SILENCE_MS = 600_000
"""A bid that nobody spoke of for so long is taken as lost; many exchanges send no loss notices."""
MAX_OPEN = 65_536
FORGOTTEN_AT_ONCE = 8_192
"""Silent bids that are taken as lost in one step: bidding waits for it. Twice what a step of the pacer can add."""
SPREAD_AT_ONCE = 256
"""Auctions of one bin that are added together; so few that the halving sees them come."""

EDGES_CPM: Float64 = 2.0 ** (FIRST_OCTAVE + np.arange(N_VALUE_BINS + 1) / STEPS_PER_OCTAVE)


class Landscape:
    """Weights of market prices in the pacer's value bins. Not thread-safe: the engine calls it under its lock.

    costs : (2, 120) float64, expected cost of one bid by the bin of its paced value; see `expected_costs`.
    """

    def __init__(self, market: Market) -> None:
        rates = np.interp(EDGES_CPM, market.edges_cpm, market.win_rate[0], left=0.0)
        # prices beyond the last edge of either belong to the last bin
        rates[0], rates[-1] = 0.0, 1.0
        self._weights = np.diff(rates) * TRUSTED_AUCTIONS
        self._open: OrderedDict[str, tuple[int, bool, int]] = OrderedDict()
        self._changed = True
        self._costs = np.zeros((2, N_VALUE_BINS))

    @property
    def costs(self) -> Float64:
        """Replaced in whole when it changes, never written to."""
        if self._changed:
            rates = np.concatenate([np.zeros(1), np.cumsum(self._weights) / self._weights.sum()])
            self._costs = np.empty((2, N_VALUE_BINS))
            expected_costs(EDGES_CPM, rates, self._costs)
            self._changed = False
        return self._costs

    def placed(self, tokens: Sequence[str | None], bids_cpm: Sequence[int], first: Sequence[bool], now_ms: int) -> None:
        """Remember bids until their fate is known."""
        for token, bid_cpm, first_price in zip(tokens, bids_cpm, first, strict=True):
            if token is not None:
                self._open[token] = (bid_cpm, first_price, now_ms)
        while len(self._open) > MAX_OPEN:
            self._open.popitem(last=False)

    @property
    def n_open(self) -> int:
        """Bids whose fate is not known."""
        return len(self._open)

    def withdraw(self, tokens: Iterable[str]) -> None:
        """Forget bids that nobody was told of."""
        for token in tokens:
            self._open.pop(token, None)

    def heard(
        self,
        types: Sequence[int],
        tokens: Sequence[str],
        prices_cpm: Sequence[int | None],
        minimums_cpm: Sequence[int | None],
    ) -> None:
        """Learn from accepted notices; each bid teaches once. What would have won is the price itself."""
        for kind, token, price_cpm, minimum_cpm in zip(types, tokens, prices_cpm, minimums_cpm, strict=True):
            bid = self._open.pop(token, None)
            if bid is None:
                continue
            bid_cpm, first_price, _ = bid
            if minimum_cpm is not None:
                self._spread(value_bin(float(minimum_cpm)), value_bin(float(minimum_cpm)) + 1)
            elif kind == pb.NOTICE_TYPE_LOSS:
                self._lost(bid_cpm)
            elif first_price:
                self._spread(0, value_bin(float(bid_cpm)) + 1)
            elif price_cpm is not None:
                self._spread(value_bin(float(price_cpm)), value_bin(float(price_cpm)) + 1)

    def forget_before(self, now_ms: int) -> None:
        """Take bids as lost of which nobody spoke in time, the oldest first, at most `FORGOTTEN_AT_ONCE` of them."""
        lost = [0] * N_VALUE_BINS
        for _ in range(min(FORGOTTEN_AT_ONCE, len(self._open))):
            token, (bid_cpm, _, placed_ms) = next(iter(self._open.items()))
            if placed_ms > now_ms - SILENCE_MS:
                break
            del self._open[token]
            lost[_first_above(bid_cpm)] += 1
        for start, n in enumerate(lost):
            for done in range(0, n, SPREAD_AT_ONCE):
                self._spread(start, N_VALUE_BINS, min(n - done, SPREAD_AT_ONCE))

    def _lost(self, bid_cpm: int) -> None:
        self._spread(_first_above(bid_cpm), N_VALUE_BINS)

    def _spread(self, start: int, end: int, n: int = 1) -> None:
        """Add n auctions to the bins from start to end, in proportion to their weights."""
        part = self._weights[start:end]
        total = float(part.sum())
        if total > 0.0:
            part *= 1.0 + n / total
        else:
            part += n / len(part)
        if self._weights.sum() > REMEMBERED_AUCTIONS:
            self._weights *= 0.5
        self._changed = True


def _first_above(bid_cpm: int) -> int:
    """The lowest bin that a price above the bid may lie in."""
    return min(int(value_bin(float(bid_cpm))) + 1, N_VALUE_BINS - 1)
