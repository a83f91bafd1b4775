"""What impressions cost: histograms of market prices, and when requests come."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import scipy.special

from headrace.errors import DataError
from headrace.types import Float64, Int64
from headrace_training.tables import Table
from headrace_training.values import first_bad, number_column, text_column

N_BINS = 96
LOWEST_CPM_MICROS = 10_000
HIGHEST_CPM_MICROS = 200_000_000
ASSUMED_AUCTIONS = 100.0
"""Weight of an assumed landscape: soon outvoted by prices that serving observes."""


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
    """Counts by exchange of a table with price_cpm (currency units per thousand) and, optionally, exchange.

    Returns the row names, "" = all exchanges first, and (n, 96) float64 counts; prices beyond the last edge count in
    the last bin. Raises DataError naming file and row.
    """
    table = Table.open(path)
    table.require(["price_cpm"], "the market price per thousand impressions of one auction a row")
    columns = [name for name in ("price_cpm", "exchange") if name in table.columns]
    edges = price_edges()
    counts: dict[str, Float64] = {"": np.zeros(N_BINS)}
    for numbers, batch in table.batches(columns):
        prices, bad = number_column(batch.column("price_cpm"), default=np.nan)
        row = first_bad(bad | (prices < 0), numbers)
        if row is not None:
            raise DataError(f"{path}, row {row}: price_cpm", got=None, expected="a finite number of zero or more")
        bins = np.clip(np.searchsorted(edges, prices * 1e6, side="right") - 1, 0, N_BINS - 1)
        counts[""] += np.bincount(bins, minlength=N_BINS)
        names = np.array([name or "" for name in text_column(batch.column("exchange"))] if len(columns) == 2 else [])
        for name in set(names.tolist()) - {""}:
            counts.setdefault(name, np.zeros(N_BINS))
            counts[name] += np.bincount(bins[names == name], minlength=N_BINS)
    if not counts[""].sum():
        raise DataError(f"{path} holds no auction", hint="leave --auctions out to assume a landscape")
    names_in_order = sorted(counts)
    return names_in_order, np.stack([counts[name] for name in names_in_order])


def traffic_profile(times_ms: Int64) -> Float64:
    """Share of events by hour of the week, UTC, Monday 00:00 first; (168,) float64 above 0, sums to 1.

    Hours are smoothed by one event each, so that no hour is expected to be empty.
    """
    # 1970-01-01 was a Thursday
    hours = (times_ms // 3_600_000 + 72) % 168
    counts = np.bincount(hours, minlength=168) + 1.0
    return np.asarray(counts / counts.sum())
