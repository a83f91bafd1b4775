"""What impressions cost lately: the artifact's landscape, moved by the fate of our own bids.

A loss says only that the price was above the bid, and a win at first price only that it was not, unless the exchange
tells the minimum to win; see `headrace.bidding.pricing.winrate`. What bids met with waits for the next refresh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import numpy as np

from headrace.bidding.pricing.exploration import Exploration
from headrace.bidding.pricing.winrate import Key, Lessons, Prices, Told, WinRates
from headrace.kernels.pace import FIRST_OCTAVE, N_VALUE_BINS, STEPS_PER_OCTAVE
from headrace.kernels.price import Market, expected_costs, shade, win_rate_at
from headrace.kernels.winrate import LOSS, PRICE, WIN
from headrace.types import Float64
from headrace.v1 import bidder_pb2 as pb

TRUSTED_AUCTIONS = 100.0
"""Weight of the artifact's landscape, in auctions."""
N_ROWS = 1_024
"""Rows of the win-rate model: about 20 KB each."""
SILENCE_MS = 600_000
"""A bid that nobody spoke of for so long is taken as lost; many exchanges send no loss notices."""
MAX_OPEN = 65_536
"""Bids that are followed at a time; while so many are open no further ones are, so that wins and silent losses of
those that are count alike."""
FORGOTTEN_AT_ONCE = 8_192
"""Silent bids that are taken as lost in one step: bidding waits for it. Twice what a step of the pacer can add."""

REMEMBERED_LOSSES = 1_000
"""Losses of an exchange beyond which those told and those inferred count half."""
MAX_EXCHANGES = 4_096
"""Exchanges beyond which those of which nothing waits are forgotten."""

VALUES_CPM: Float64 = 2.0 ** (FIRST_OCTAVE + (np.arange(N_VALUE_BINS) + 0.5) / STEPS_PER_OCTAVE)
"""Middles, by ratio, of the pacer's value bins."""


class Open(NamedTuple):
    """A bid whose fate is not known.

    bid_cpm : CPM micros.   explored : it was drawn, not solved for.
    """

    key: Key
    bid_cpm: int
    first_price: bool
    explored: bool
    placed_ms: int


Row = tuple[Key, int, bool, bool, int]
"""The same as `Open`, for keeping: a plain tuple costs less to make, and the search for garbage leaves it out."""


class Outcome(NamedTuple):
    """What a bid met with: PRICE, WIN or LOSS, and the price or the bid, CPM micros."""

    bid: Open
    kind: int
    amount: int


@dataclass(slots=True)
class Waiting:
    """Outcomes of one exchange that are not learned from yet.

    n_told, n_silent : losses that it told of, and that were inferred.
    """

    outcomes: deque[Outcome] = field(default_factory=deque)
    n_told: int = 0
    n_silent: int = 0

    def take(self, before_ms: int) -> list[Outcome]:
        """What may be learned from now: all where most losses are told, else what was bid before a moment."""
        if self.n_told + self.n_silent > REMEMBERED_LOSSES:
            self.n_told, self.n_silent = self.n_told // 2, self.n_silent // 2
        taken = []
        while self.outcomes and (self.n_told > self.n_silent or self.outcomes[0].bid.placed_ms <= before_ms):
            taken.append(self.outcomes.popleft())
        return taken


class Landscape:
    """What bids meet with. Not thread-safe but for ``prices``: the engine calls it under its lock, and learns aside.

    market : the artifact's; row 0 is all exchanges together.
    exchanges : names to its other rows.   auctions : (x,) float64, how many stand behind each.

    Attributes: ``exploration`` keeps the account of bids that were drawn at random; ``n_strange`` counts wins and
    losses told of bids that were not followed, or not any more: what they say is not guessed.
    """

    def __init__(
        self, market: Market, exchanges: Mapping[str, int] | None = None, auctions: Float64 | None = None
    ) -> None:
        self._artifact = market, exchanges or {}, auctions
        self._rates = _begun(*self._artifact)
        self._open: dict[str, Row] = {}  # in the order of the bids
        self._waiting: dict[str, Waiting] = {}
        self._n_waiting = 0
        self._now_ms = 0
        self.exploration = Exploration()
        self.n_strange = 0
        self._costs_of: Prices | None = None
        self._costs = np.zeros((2, N_VALUE_BINS))

    def adopt(self, market: Market, exchanges: Mapping[str, int], auctions: Float64) -> None:
        """Take over another artifact's landscape; what bids taught stays. By the thread that learns."""
        self._artifact = market, exchanges, auctions
        self._go_on(self._rates.keep(), 1.0)

    def keep(self) -> Lessons:
        """What bids taught; by the thread that learns."""
        return self._rates.keep()

    def restore(self, kept: Lessons, share: float) -> None:
        """Go on from a share of what an earlier process kept, instead of what this one learned; as `adopt`."""
        self._go_on(kept, share)

    def _go_on(self, kept: Lessons, share: float) -> None:
        rates = _begun(*self._artifact)
        rates.n_alarms = self._rates.n_alarms
        rates.take(kept, share)
        self._rates = rates

    @property
    def prices(self) -> Prices:
        """Win rates to price with; replaced in whole by `learn`."""
        return self._rates.prices

    @property
    def n_alarms(self) -> int:
        """How often prices of a row had moved."""
        return self._rates.n_alarms

    @property
    def costs(self) -> Float64:
        """Expected cost of one bid by the bin of its paced value, (2, 120) float64; never written to.

        Over all exchanges; see `expected_costs`.
        """
        prices = self._rates.prices
        if prices is not self._costs_of:
            self._costs = np.empty((2, N_VALUE_BINS))
            expected_costs(prices.market.edges_cpm, prices.market.win_rate[0], VALUES_CPM, self._costs)
            self._costs_of = prices
        return self._costs

    def placed(self, bids: Mapping[str, Row]) -> None:
        """Remember bids by their tokens until their fate is known."""
        room = MAX_OPEN - len(self._open) - self._n_waiting
        self._open.update(bids if len(bids) <= room else dict(islice(bids.items(), max(room, 0))))

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
        """Learn from accepted notices; each bid teaches once.

        A minimum to win above a bid that won, or not above one that lost, contradicts the notice and is passed over, as
        is a price of zero or above the bid.
        """
        for kind, token, price_cpm, minimum_cpm in zip(types, tokens, prices_cpm, minimums_cpm, strict=True):
            row = self._open.pop(token, None)
            if row is None:
                self.n_strange += kind != pb.NOTICE_TYPE_BILLING  # a bill mostly follows a win
                continue
            bid = Open._make(row)
            lost = kind == pb.NOTICE_TYPE_LOSS
            known = minimum_cpm if minimum_cpm is not None or bid.first_price or lost else price_cpm
            if known is None or known <= 0 or lost != (known > bid.bid_cpm):
                outcome = Outcome(bid, LOSS if lost else WIN, bid.bid_cpm)
            else:
                outcome = Outcome(bid, PRICE, known)
            waiting = self._waiting.setdefault(bid.key[0], Waiting())
            waiting.n_told += lost
            waiting.outcomes.append(outcome)
            self._n_waiting += 1

    def gather(self, now_ms: int) -> list[Outcome]:
        """What may be learned from now, in the order of the bids; under the engine's lock.

        Bids of which nobody spoke in time are taken as lost, the oldest first, at most `FORGOTTEN_AT_ONCE` of them.
        Where losses are silent, wins wait as long as losses do: learned ahead of them, they would make winning look
        easy. When the clock was set back, moments of what is open lie ahead of it: all of that is forgotten, wins and
        losses alike.
        """
        if self._now_ms - now_ms >= SILENCE_MS:
            self._open.clear()
            self._waiting.clear()
        self._now_ms = now_ms
        known = self._fall_silent(now_ms - SILENCE_MS)
        for waiting in self._waiting.values():
            known += waiting.take(now_ms - SILENCE_MS)
        self._n_waiting = sum(len(waiting.outcomes) for waiting in self._waiting.values())
        if len(self._waiting) > MAX_EXCHANGES:
            self._waiting = {name: waiting for name, waiting in self._waiting.items() if waiting.outcomes}
        known.sort(key=lambda outcome: outcome.bid.placed_ms)
        return known

    def learn(self, known: Sequence[Outcome]) -> None:
        """Learn from what was gathered and replace the prices; not under the lock, by one thread at a time."""
        if known:
            bids, kinds, amounts = zip(*known, strict=True)
            told = Told([bid.key for bid in bids], kinds, amounts, [bid.bid_cpm for bid in bids])
            predicted, won = self._rates.learn(told)
            explored = np.array([bid.explored for bid in bids], np.bool_)
            self.exploration.judge(explored, predicted, won)
        self._rates.refresh()

    def _fall_silent(self, before_ms: int) -> list[Outcome]:
        silent, lost = [], []
        for token, row in islice(self._open.items(), FORGOTTEN_AT_ONCE):
            bid = Open._make(row)
            if bid.placed_ms > before_ms:
                break
            silent.append(token)
            self._waiting.setdefault(bid.key[0], Waiting()).n_silent += 1
            lost.append(Outcome(bid, LOSS, bid.bid_cpm))
        for token in silent:
            del self._open[token]
        return lost


def _begun(market: Market, exchanges: Mapping[str, int], auctions: Float64 | None) -> WinRates:
    """Win rates that know an artifact's landscape and nothing else."""
    rates = WinRates(N_ROWS)
    rates.begin((), market.edges_cpm, market.win_rate[0], TRUSTED_AUCTIONS)
    for name, row in exchanges.items():
        behind = TRUSTED_AUCTIONS if auctions is None else min(float(auctions[row]), TRUSTED_AUCTIONS)
        if row and behind > 0.0:
            rates.begin((name,), market.edges_cpm, market.win_rate[row], behind)
    rates.refresh()
    return rates


def warm_prices() -> None:
    """Compile or load the kernels of learning and exploring; a process that has heard nothing would call none."""
    rates = WinRates(4)
    rates.learn(Told([("", "", "", 0)], [WIN], [1.0], [1.0]))
    rates.refresh()
    market = rates.prices.market
    win_rate_at(shade(2.0, 1.0, market.edges_cpm, market.win_rate[0]), market.edges_cpm, market.win_rate[0])
