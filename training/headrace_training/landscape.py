"""What impressions cost: histograms of market prices, and when requests come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.special

from headrace.bidding.pricing.winrate import EDGES_CPM, broad_fits
from headrace.errors import DataError
from headrace.kernels.winrate import (
    LOSS,
    PRICE,
    WIN,
    Evidence,
    Outcomes,
    add_evidence,
    fit_rows,
)
from headrace.kernels.winrate import (
    N_BINS as N_FINE,
)
from headrace.types import Float64, Int8, Int64
from headrace_training.tables import Table
from headrace_training.values import first_bad, number_column, text_column

N_BINS = 96
LOWEST_CPM_MICROS = 10_000
HIGHEST_CPM_MICROS = 200_000_000
ASSUMED_AUCTIONS = 100.0
"""Weight of an assumed landscape: soon outvoted by prices that serving observes."""
FITS = 12
"""Each fit begins where the last one ended and learns how smooth the prices are."""
_KINDS = {"price": PRICE, "won": WIN, "lost": LOSS}


def price_edges() -> Int64:
    """Edges of the price bins in CPM micros: 0, then evenly on a logarithmic scale to 200 a thousand; (97,) int64."""
    edges = np.geomspace(LOWEST_CPM_MICROS, HIGHEST_CPM_MICROS, N_BINS)
    return np.concatenate([[0], np.rint(edges).astype(np.int64)])


def assumed_landscape(median_cpm: float, sigma: float) -> Float64:
    """A log-normal landscape of all exchanges; (1, 96) float64 counts that sum to ASSUMED_AUCTIONS.

    median_cpm : currency units per thousand impressions.   sigma : of the logarithm.
    """
    with np.errstate(divide="ignore"):
        position = (np.log(price_edges()) - np.log(median_cpm * 1e6)) / sigma
    shares = np.diff(scipy.special.ndtr(position))
    return np.asarray(shares / shares.sum() * ASSUMED_AUCTIONS)[None, :]


def observed_landscape(path: Path) -> tuple[list[str], Float64]:
    """Auctions by exchange and market price of a table with price_cpm (currency units per thousand impressions).

    Optional columns: exchange; and outcome, ``price`` where price_cpm is the market price, ``won`` where it is a bid
    that won at an untold price, ``lost`` where it is a bid that lost. With any of the last two, prices are fitted as
    the server fits them (`headrace.kernels.winrate`), and a row's auctions are spread by its fit.

    Returns the row names, "" = all exchanges first, and (n, 96) float64 auctions by bin; prices beyond the last edge
    count in the last bin. Raises DataError naming file and row.
    """
    table = Table.open(path)
    table.require(["price_cpm"], "the market price per thousand impressions of one auction a row")
    columns = [name for name in ("price_cpm", "exchange", "outcome") if name in table.columns]
    tallies: dict[str, Tally] = {"": Tally.empty()}
    for numbers, batch in table.batches(columns):
        prices, bad = number_column(batch.column("price_cpm"), default=np.nan)
        row = first_bad(bad | (prices < 0), numbers)
        if row is not None:
            raise DataError(f"{path}, row {row}: price_cpm", got=None, expected="a finite number of zero or more")
        words = text_column(batch.column("outcome")) if "outcome" in columns else []
        kinds = np.array([_KINDS.get(word or "price", -1) for word in words] or [PRICE] * len(prices), np.int8)
        row = first_bad(kinds < 0, numbers)
        if row is not None:
            raise DataError(f"{path}, row {row}: outcome", got=None, expected="price, won, lost or nothing")
        tallies[""].add(prices, kinds)
        exchanges = text_column(batch.column("exchange")) if "exchange" in columns else []
        names = np.array([name or "" for name in exchanges])
        for name in set(names.tolist()) - {""}:
            tallies.setdefault(name, Tally.empty()).add(prices[names == name], kinds[names == name])
    if not tallies[""].n:
        raise DataError(f"{path} holds no auction", hint="leave --auctions out to assume a landscape")
    in_order = sorted(tallies)
    if not tallies[""].censored:
        return in_order, np.stack([tallies[name].counts for name in in_order])
    return in_order, _fitted([tallies[name] for name in in_order])


@dataclass(slots=True)
class Tally:
    """Auctions of one exchange.

    counts : (96,) by the market price's bin, where it was told.   evidence : of one row.
    """

    counts: Float64
    evidence: Evidence
    n: int = 0
    censored: bool = False

    @classmethod
    def empty(cls) -> Tally:
        sides = np.zeros((1, N_FINE + 1)), np.zeros((1, N_FINE + 1))
        return cls(np.zeros(N_BINS), Evidence(np.zeros((1, N_FINE)), *sides, np.zeros(1), np.zeros(1)))

    def add(self, prices: Float64, kinds: Int8) -> None:
        """Count prices, or bids, currency units per thousand impressions, by what they are."""
        told = prices[kinds == PRICE] * 1e6
        bins = np.clip(np.searchsorted(price_edges(), told, side="right") - 1, 0, N_BINS - 1)
        self.counts += np.bincount(bins, minlength=N_BINS)
        amounts = np.maximum(prices * 1e6, 1.0)
        outcomes = Outcomes(np.zeros(len(prices), np.int32), kinds, amounts)
        add_evidence(EDGES_CPM, np.full(1, -1, np.int32), outcomes, self.evidence)
        self.n += len(prices)
        self.censored |= bool((kinds != PRICE).any())


def _fitted(tallies: Sequence[Tally]) -> Float64:
    """Auctions by bin of rows whose prices are censored; the first row is all together, the others lean on it."""
    n = len(tallies)
    evidence = Evidence(*(np.concatenate([tally.evidence[k] for tally in tallies]) for k in range(5)))
    parents = np.where(np.arange(n) == 0, -1, 0).astype(np.int32)
    fits = broad_fits(n)
    for _ in range(FITS):
        fit_rows(EDGES_CPM, np.arange(n, dtype=np.int32), parents, evidence, fits)
    rates = np.stack([np.interp(price_edges(), EDGES_CPM, row, left=0.0) for row in fits.win_rate])
    rates[:, -1] = 1.0
    spread: Float64 = np.diff(rates, axis=1) * np.array([[tally.n] for tally in tallies])
    return spread


def traffic_profile(times_ms: Int64) -> Float64:
    """Share of events by hour of the week, UTC, Monday 00:00 first; (168,) float64 above 0, sums to 1.

    Hours are smoothed by one event each, so that no hour is expected to be empty.
    """
    # 1970-01-01 was a Thursday
    hours = (times_ms // 3_600_000 + 72) % 168
    counts = np.bincount(hours, minlength=168) + 1.0
    return np.asarray(counts / counts.sum())
