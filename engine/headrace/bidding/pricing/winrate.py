"""The win-rate model: what impressions cost by exchange, placement and floor, learned from what bids met with.

Rows form a tree: all; an exchange; a currency and placement of it; a band of floors there. A row's landscape leans on
the one above it until it has evidence of its own. Evidence is kept as weights by price bin, so memory is bounded, old
evidence fades, and a row whose prices have moved gives up what it knew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.kernels.drift import watch
from headrace.kernels.price import Market, win_rates_at
from headrace.kernels.winrate import (
    BINS_PER_OCTAVE,
    FIRST_OCTAVE,
    N_BINS,
    PRICE,
    PRIOR_MEDIAN_CPM,
    PRIOR_SMOOTH,
    WIN,
    Evidence,
    Fits,
    Outcomes,
    add_evidence,
    fit_rows,
)
from headrace.types import Bool, Float64, Int32

Key = tuple[str, str, str, int]
"""Exchange, currency, placement and floor band of an impression."""
Path = tuple[str | int, ...]
"""A row's name: () for all, else the first 1, 3 or 4 parts of a key."""

EDGES_CPM: Float64 = 2.0 ** (FIRST_OCTAVE + np.arange(N_BINS + 1) / BINS_PER_OCTAVE)

REMEMBERED_AUCTIONS = 20_000.0
"""A row's evidence beyond this weight counts half."""
KEPT_AUCTIONS = 20.0
"""Weight, in auctions, that a row's evidence keeps when its prices have moved."""
LEAST_ASKED = 16
"""Outcomes of a placement, or a floor band, before it gets a row of its own; an exchange gets one with the first."""
MAX_ASKED = 65_536
"""Keys without a row whose outcomes are counted at a time."""
LEAST_TAKEN = 0.5
"""Weight, in auctions, below which a row that was kept says nothing that its beginning does not."""
LEAST_NEWS = 0.005
"""Share of a row's evidence that has to be new before it is fitted again."""
MAX_FITS = 64
"""Rows fitted in one refresh, those first that have changed most: bidding waits for it."""


def broad_fits(n: int) -> Fits:
    """Where fits of n rows begin: as the broad landscape that is the prior of all."""
    theta = np.tile(np.log(EDGES_CPM[1:-1] / PRIOR_MEDIAN_CPM), (n, 1))
    win_rate, errors = np.zeros((n, N_BINS + 1)), np.zeros((n, N_BINS + 1))
    return Fits(theta, np.full(n, PRIOR_SMOOTH), win_rate, errors, np.zeros((n, N_BINS - 1), np.bool_))


def floor_band(floor_cpm: int) -> int:
    """The octave of a floor in CPM micros; 0 where there is none."""
    return max(floor_cpm, 0).bit_length()


@dataclass(frozen=True, slots=True)
class Prices:
    """What impressions cost, to price with; replaced in whole.

    rows : rows of the market by path.
    """

    market: Market
    rows: Mapping[Path, int]

    def rows_of(self, keys: Sequence[Key]) -> Int32:
        """The rows of n impressions, (n,) int32; see `row`."""
        rows = list(map(self.rows.get, keys))
        if None in rows:
            other = {key: self.row(key) for key in set(keys)}  # impressions of a batch have few keys between them
            rows = list(map(other.__getitem__, keys))
        return np.array(rows, np.int32)

    def row(self, key: Key) -> int:
        """The row of an impression, or of what it belongs to when it has none of its own; 0 is all together."""
        find = self.rows.get
        row = find(key)
        if row is None:
            row = find(key[:3])
            if row is None:
                row = find(key[:1], 0)
        return row


@dataclass(frozen=True, slots=True)
class Told:
    """Outcomes of n bids to learn from.

    kinds : PRICE, WIN or LOSS of `headrace.kernels.winrate`; a bid that reaches its PRICE has won.
    amounts : the price where it is known, else the bid, CPM micros > 0.   bids : CPM micros.
    """

    keys: Sequence[Key]
    kinds: Sequence[int]
    amounts: Sequence[float]
    bids: Sequence[float]


class Lessons(NamedTuple):
    """What r rows have learned from bids alone, without the artifact's landscape.

    prices, wins, losses, weight : as of `Evidence`.   theta, smooth, jumps : as of `Fits`.
    """

    paths: Sequence[Path]
    prices: npt.NDArray[np.floating[Any]]
    wins: npt.NDArray[np.floating[Any]]
    losses: npt.NDArray[np.floating[Any]]
    weight: Float64
    theta: Float64
    smooth: Float64
    jumps: Bool


class WinRates:
    """Win rates of up to ``capacity`` rows. Not thread-safe.

    Attributes ``prices``, replaced by `refresh`, and ``n_alarms``, how often prices had moved.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._rows: dict[Path, int] = {(): 0}
        self._paths: list[Path] = [()]
        self._asked: dict[Key, int] = {}
        self._grown = False
        self._parents = np.full(capacity, -1, np.int32)
        n_edges = N_BINS + 1
        self._evidence = Evidence(
            np.zeros((capacity, N_BINS)),
            np.zeros((capacity, n_edges)),
            np.zeros((capacity, n_edges)),
            np.zeros(capacity),
            np.zeros(capacity),
        )
        self._fits = broad_fits(capacity)
        self._begun: dict[int, Float64] = {}  # rows to what is left of the artifact's landscape in them, by bin
        self._used = np.zeros(capacity)
        self._sums = np.zeros((capacity, 2))
        self.n_alarms = 0
        self._evidence.changed[0] = 1.0
        self.prices = Prices(Market(EDGES_CPM, self._fits.win_rate[:1]), {(): 0})
        self.refresh()

    def begin(self, path: Path, edges_cpm: Float64, win_rate: Float64, auctions: float) -> None:
        """Take a landscape of other bins, of a weight in auctions, as what is known of a row before any bid."""
        row = self._rows.get(path, -1)
        if row < 0:
            row = self._add_row(path, np.inf)
        if row < 0:
            return
        rates = np.interp(EDGES_CPM, edges_cpm, win_rate, left=0.0)
        rates[0], rates[-1] = 0.0, 1.0  # prices beyond the last edge of either belong to the end bins
        self._begun[row] = np.diff(rates) * auctions
        self._evidence.prices[row] += self._begun[row]
        self._evidence.weight[row] += auctions
        self._evidence.changed[row] += auctions

    def keep(self) -> Lessons:
        """What bids taught, copied."""
        n, evidence, fits = len(self._paths), self._evidence, self._fits
        prices, weight = evidence.prices[:n].copy(), evidence.weight[:n].copy()
        for row, begun in self._begun.items():
            prices[row] = np.maximum(prices[row] - begun, 0.0)
            weight[row] = max(weight[row] - begun.sum(), 0.0)
        wins, losses = evidence.wins[:n].copy(), evidence.losses[:n].copy()
        fitted = fits.theta[:n].copy(), fits.smooth[:n].copy(), fits.jumps[:n].copy()
        return Lessons(list(self._paths), prices, wins, losses, weight, *fitted)

    def take(self, kept: Lessons, share: float) -> None:
        """Go on from a share of what was kept, on top of what rows began as; rows for which there is no room are left.

        Curves are those that were kept until the next refreshes fit them.
        """
        order = np.argsort(-kept.weight, kind="stable")
        for at in sorted(order.tolist(), key=lambda at: len(kept.paths[at])):
            path = kept.paths[at]
            if share * kept.weight[at] < LEAST_TAKEN:
                continue
            row = self._rows.get(path, -1)
            if row < 0 and len(self._paths) < self._capacity:
                row = self._add_row(path, np.inf)
            if row < 0:
                continue
            for table, known in zip(self._evidence[:4], kept[1:5], strict=True):
                table[row] += share * known[at]
            self._evidence.changed[row] = max(self._evidence.weight[row], 1.0)
            self._used[row] = share * kept.weight[at]
            self._fits.theta[row], self._fits.smooth[row] = kept.theta[at], kept.smooth[at]
            self._fits.jumps[row] = kept.jumps[at]
            self._fits.win_rate[row, 1:-1] = 1.0 / (1.0 + np.exp(-kept.theta[at]))
        self._grown = True
        self._publish()

    def learn(self, told: Told) -> tuple[Float64, Bool]:
        """Take in n outcomes; returns the win rates that were predicted, (n,) float64, and who won, (n,) bool."""
        rows = self.prices.rows_of(told.keys)
        self._ask(told.keys, rows.tolist())
        bids, amounts = np.array(told.bids, np.float64), np.array(told.amounts, np.float64)
        kinds = np.array(told.kinds, np.int8)
        won = np.where(kinds == PRICE, amounts <= bids, kinds == WIN)
        predicted, errors = np.empty(len(rows)), np.empty(len(rows))
        win_rates_at(self.prices.market, rows, bids, predicted)
        alarms = np.zeros(self._capacity, np.bool_)
        behind = self._evidence.weight - self._evidence.changed
        win_rates_at(Market(EDGES_CPM, self._fits.errors), rows, bids, errors)
        watch(self._parents, rows, predicted, errors, won, behind, self._sums, alarms)
        if alarms.any():
            self._give_up(alarms)
        add_evidence(EDGES_CPM, self._parents, Outcomes(rows, kinds, amounts), self._evidence)
        np.add.at(self._used, rows, 1.0)
        return predicted, won

    def refresh(self) -> None:
        """Give rows to what has been seen often enough, and fit what has changed."""
        self._grow()
        old = np.flatnonzero(self._evidence.weight > REMEMBERED_AUCTIONS)
        self._scale(old, np.full(len(old), 0.5))
        news = self._evidence.changed / (self._evidence.weight + KEPT_AUCTIONS)
        changed = np.flatnonzero(news >= LEAST_NEWS)
        if len(changed) > MAX_FITS:
            changed = changed[np.argsort(-news[changed], kind="stable")[:MAX_FITS]]
        if not (len(changed) or self._grown):
            return
        depth = np.array([len(self._paths[row]) for row in changed.tolist()])
        order = changed[np.argsort(depth, kind="stable")].astype(np.int32)
        fit_rows(EDGES_CPM, order, self._parents, self._evidence, self._fits)
        self._publish()

    def _publish(self) -> None:
        rows = dict(self._rows) if self._grown else self.prices.rows
        self._grown = False
        self.prices = Prices(Market(EDGES_CPM, self._fits.win_rate[: len(self._paths)].copy()), rows)

    def _ask(self, keys: Sequence[Key], rows: Sequence[int]) -> None:
        """Count outcomes of what has no row of its own."""
        paths, asked = self._paths, self._asked
        for key, row in zip(keys, rows, strict=True):
            if paths[row] != key and (key in asked or len(asked) < MAX_ASKED):
                asked[key] = asked.get(key, 0) + 1

    def _grow(self) -> None:
        """Give rows to what was asked for often enough."""
        for key, n in list(self._asked.items()):
            paths = [path for path in (key[:1], key[:3], key) if path not in self._rows]
            for path in paths:
                if len(path) == 1 or n >= LEAST_ASKED:
                    self._add_row(path, n)
            if n >= LEAST_ASKED:
                del self._asked[key]
        if len(self._asked) >= MAX_ASKED:
            self._asked.clear()

    def _add_row(self, path: Path, asked: float) -> int:
        """The new row of a path, which begins as the row above it; -1 where all rows are in better use."""
        row = len(self._paths)
        if row < self._capacity:
            self._paths.append(path)
        else:
            row = self._least_used(asked)
            if row < 0:
                return -1
            del self._rows[self._paths[row]]
            self._begun.pop(row, None)
            self._paths[row] = path
        parent = self._rows[()] if len(path) == 1 else self._rows.get(path[:3] if len(path) == 4 else path[:1], 0)
        self._rows[path], self._parents[row] = row, parent
        self._grown = True
        for table in (*self._evidence, self._used, self._sums):
            table[row] = 0
        self._evidence.changed[row] = 1.0  # so that it is fitted with the row above it
        self._fits.theta[row], self._fits.win_rate[row] = self._fits.theta[parent], self._fits.win_rate[parent]
        self._fits.smooth[row], self._fits.jumps[row] = PRIOR_SMOOTH, False
        return row

    def _least_used(self, asked: float) -> int:
        """A row without rows below it that was used less than ``asked`` times lately; -1 when there is none."""
        used = self._used.copy()
        used[self._parents[self._parents >= 0]] = np.inf
        used[0] = np.inf
        row = int(np.argmin(used))
        if used[row] < asked:
            return row
        self._used *= 0.5  # what is asked for again and again will find room
        return -1

    def _give_up(self, alarms: Bool) -> None:
        """Rows whose prices have moved, and all below them, keep little of what they knew; row 0 moves alone."""
        self.n_alarms += int(alarms.sum())
        below = alarms.copy()
        for row, path in enumerate(self._paths):
            if len(path) > 1 and not alarms[row]:
                above = [self._rows.get(path[:n], 0) for n in (1, 3)]
                below[row] = any(alarms[each] for each in above if 0 < each != row)
        rows = np.flatnonzero(below)
        self._sums[rows] = 0.0
        self._scale(rows, np.minimum(KEPT_AUCTIONS / np.maximum(self._evidence.weight[rows], 1e-9), 1.0))

    def _scale(self, rows: npt.NDArray[np.intp], factors: Float64) -> None:
        prices, wins, losses, weight, changed = self._evidence
        for table in (prices, wins, losses):
            table[rows] *= factors[:, None]
        changed[rows] += weight[rows] * (1.0 - factors)
        weight[rows] *= factors
        for row, factor in zip(rows.tolist(), factors.tolist(), strict=True):
            if row in self._begun:
                self._begun[row] = self._begun[row] * factor
