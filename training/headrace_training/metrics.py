"""What a report says beside accuracy: intervals, coverage, novelty, diversity, popularity bias, and for whom."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.types import Float64, Int32, Int64
from headrace_training.intervals import bootstrap_means, interval

Slice = dict[str, Any]

MAX_DIVERSITY_LINES = 1000
"""Lists whose diversity is computed; a seeded sample of them when there are more."""

N_GROUPS = 4
DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What was ranked for each test line (a user, a session, a basket) and how right it was.

    unit     : "users" or "lines", as the report's count is called.
    names    : n ids of the lines, alike in every run on the same test set; they pair two runs.
    ranked   : (n, k) int32 items by rank, -1 for none.
    relevant : (n, n_items) CSR, what was looked for, as far as it is in the catalogue.
    history  : (n, n_items) CSR, what was known of the line when it was ranked; its pattern counts, not its values.
    accuracy : the contract's metrics by name with k, "recall@20": (n,) float64 in [0, 1].
    digest   : of the test set, by headrace_training.results.digest_of.
    """

    unit: str
    names: Sequence[str]
    ranked: Int32
    relevant: sp.csr_matrix
    history: sp.csr_matrix
    accuracy: Mapping[str, Float64]
    digest: str

    @property
    def k(self) -> int:
        return int(self.ranked.shape[1])

    @property
    def activity(self) -> Int64:
        """How many different items were known of each line."""
        return np.asarray(np.diff(self.history.indptr), dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items that were ranked, as train knows them.

    item_ids   : n_items ids.
    taken      : (n, n_items) CSR, a row a person (session, basket) of train; its pattern counts.
    age_days   : (n_items,) float64 from an item's first event to the end of train, None when times are not known.
    attributes : (n_items, m) CSR, >= 0; None: items are alike when the same people take them.
    """

    item_ids: Sequence[str]
    taken: sp.csr_matrix
    age_days: Float64 | None = None
    attributes: sp.csr_matrix | None = None

    @property
    def counts(self) -> Int64:
        """How many rows of train hold each item."""
        return np.bincount(self.taken.indices, minlength=self.taken.shape[1]).astype(np.int64)

    @property
    def n_rows(self) -> int:
        """Rows of train that hold any item."""
        return int(np.count_nonzero(np.diff(self.taken.indptr)))


def item_age_days(items: Int32, times_ms: Int64, n_items: int) -> Float64:
    """Days from each item's first event to the last event of all; 0 for items without any; (n_items,) float64."""
    end = int(times_ms.max(initial=0))
    first = np.full(n_items, end, dtype=np.int64)
    np.minimum.at(first, items, times_ms)
    return (end - first) / DAY_MS


def summarize(outcome: Outcome, catalogue: Catalogue, seed: int) -> dict[str, Any]:
    """The fields that stand beside the contract's: all finite, all but those in ``slices`` fractions in [0, 1].

    ``intervals`` are 95 % bootstrap intervals of the means over lines.
    """
    names = list(outcome.accuracy)
    values = np.column_stack([outcome.accuracy[name] for name in names])
    means = bootstrap_means(values, seed)
    return {
        "intervals": {name: interval(means[:, column]) for column, name in enumerate(names)},
        **beyond_accuracy(outcome, catalogue, seed),
        "slices": slices(outcome, catalogue, seed),
    }


def beyond_accuracy(outcome: Outcome, catalogue: Catalogue, seed: int) -> dict[str, float]:
    """Coverage, Gini, novelty, diversity and popularity of what was recommended."""
    k, ranked = outcome.k, outcome.ranked
    shown = np.bincount(ranked[ranked >= 0], minlength=len(catalogue.item_ids))
    share = catalogue.counts / max(1, catalogue.n_rows)
    vectors = catalogue.taken.T if catalogue.attributes is None else catalogue.attributes
    return {
        f"coverage@{k}": float((shown > 0).mean()),
        f"gini@{k}": gini(shown),
        f"novelty@{k}": _mean(list_means(ranked, self_information(catalogue.counts, catalogue.n_rows))),
        f"diversity@{k}": _mean(list_diversity(_sample(ranked, seed), unit_rows(vectors.tocsr()))),
        f"recommended_popularity@{k}": _mean(list_means(ranked, share)),
        "profile_popularity": _mean(row_means(outcome.history, share)),
    }


def _sample(ranked: Int32, seed: int) -> Int32:
    """Some of the lists, the same ones whatever order they come in."""
    if len(ranked) <= MAX_DIVERSITY_LINES:
        return ranked
    rows = np.random.default_rng(seed).choice(len(ranked), MAX_DIVERSITY_LINES, replace=False)
    return ranked[np.lexsort(ranked.T)[rows]]


def _mean(values: Float64) -> float:
    """Mean of the entries that are numbers, by an exact sum; 0 when there is none."""
    known = values[~np.isnan(values)]
    return math.fsum(known.tolist()) / len(known) if len(known) else 0.0


def gini(counts: Int64) -> float:
    """0 when all items are shown equally often, towards 1 when few are; 0 when nothing is shown.

    (2 Σ i x_i) / (n Σ x) - (n + 1) / n over ascending x, i from 1.
    """
    total, n = int(counts.sum()), len(counts)
    if not total:
        return 0.0
    ascending = np.sort(counts)
    return float(max(0.0, 2 * (np.arange(1, n + 1) * ascending).sum() / (n * total) - (n + 1) / n))


def self_information(counts: Int64, n_rows: int) -> Float64:
    """-log2 of the share of rows that hold an item, over log2(n_rows): 1 when one row has it, 0 when all have.

    An item in no row counts as one in one. Vargas, Castells, RecSys 2011, section 3.2. Returns (n_items,) float64.
    """
    if n_rows < 2:
        return np.zeros(len(counts))
    return np.asarray(1.0 - np.log2(np.maximum(counts, 1)) / np.log2(n_rows))


def list_means(ranked: Int32, of_item: Float64) -> Float64:
    """Mean over each list's items of a value of the item; (n,) float64, NaN for an empty list."""
    there = ranked >= 0
    return _ratio(np.where(there, of_item[np.maximum(ranked, 0)], 0.0).sum(axis=1), there.sum(axis=1))


def row_means(rows: sp.csr_matrix, of_item: Float64) -> Float64:
    """Mean over each row's stored columns of a value of the column; (n,) float64, NaN for an empty row."""
    at = np.repeat(np.arange(rows.shape[0]), np.diff(rows.indptr))
    sums = np.bincount(at, of_item[rows.indices], minlength=rows.shape[0])
    return _ratio(sums.astype(np.float64), np.diff(rows.indptr))


def _ratio(above: Float64, below: Int32 | Int64) -> Float64:
    return np.where(below > 0, above / np.maximum(below, 1), np.nan)


def unit_rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The pattern's rows scaled to length 1; empty rows stay."""
    lengths = np.diff(matrix.indptr)
    data = np.repeat(1.0 / np.sqrt(np.maximum(lengths, 1)), lengths)
    return sp.csr_matrix((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def list_diversity(ranked: Int32, vectors: sp.csr_matrix) -> Float64:
    """1 - mean cosine over the pairs of each list; (n,) float64, NaN for a list of fewer than two.

    vectors : (n_items, m) CSR, rows of length 1 or 0, >= 0. An item without a vector is unlike all others.
    The pairs' sum is (|Σ v|² - Σ |v|²) / 2. Ziegler et al., WWW 2005, section 3.3.
    """
    out = np.empty(len(ranked))
    own = np.asarray(vectors.multiply(vectors).sum(axis=1)).ravel()
    for start in range(0, len(ranked), 64):
        block = ranked[start : start + 64]
        there = block >= 0
        lists = sp.csr_matrix(
            (np.ones(int(there.sum())), (np.nonzero(there)[0], block[there])), shape=(len(block), vectors.shape[0])
        )
        sums = sp.csr_matrix(lists @ vectors)
        squares = np.asarray(sums.multiply(sums).sum(axis=1)).ravel()
        counts = there.sum(axis=1)
        similar = _ratio(squares - lists @ own, counts * (counts - 1))
        out[start : start + 64] = np.clip(1.0 - similar, 0.0, 1.0)
    return out


def quantile_groups(values: Int64 | Float64, n_groups: int = N_GROUPS) -> Int32:
    """Groups 0, 1, … of nearly equal size by value; equal values share a group, so there may be fewer."""
    if not len(values):
        return np.zeros(0, dtype=np.int32)
    cuts = np.quantile(values, np.arange(1, n_groups) / n_groups, method="inverted_cdf")
    found = np.searchsorted(np.unique(cuts), values, side="left")
    return np.unique(found, return_inverse=True)[1].astype(np.int32)


def slices(outcome: Outcome, catalogue: Catalogue, seed: int) -> dict[str, list[Slice]]:
    """The metrics by what was known of the line, and recall by the popularity and, where known, the age of the items.

    Groups are quarters of the lines and of the (line, item) pairs that were looked for.
    """
    found = {"activity": activity_slices(outcome.activity, outcome.accuracy, outcome.unit, seed)}
    targets = Targets.of(outcome)
    of_item = {"item_popularity": catalogue.counts, "item_age_days": catalogue.age_days}
    for name, values in of_item.items():
        if values is not None:
            found[name] = targets.slices(values[targets.items], outcome.unit, outcome.k, seed)
    return found


def activity_slices(activity: Int64, accuracy: Mapping[str, Float64], unit: str, seed: int) -> list[Slice]:
    """Means and intervals of every metric, a group of lines after the other."""
    groups = quantile_groups(activity)
    found = []
    for group in range(int(groups.max(initial=-1)) + 1):
        rows = np.flatnonzero(groups == group)
        row: Slice = {"from": int(activity[rows].min()), "to": int(activity[rows].max()), unit: len(rows)}
        found.append(row | _means({name: values[rows] for name, values in accuracy.items()}, seed))
    return found


def _means(values: Mapping[str, Float64], seed: int) -> dict[str, Any]:
    means = bootstrap_means(np.column_stack(list(values.values())), seed)
    return {name: _mean(of_name) for name, of_name in values.items()} | {
        "intervals": {name: interval(means[:, column]) for column, name in enumerate(values)}
    }


@dataclass(frozen=True)
class Targets:
    """Every (line, item) pair that was looked for, inside the catalogue.

    lines, items : (n,) int32.   ranks : (n,) int32 from 1, 0 where the item is not in the list.
    """

    lines: Int32
    items: Int32
    ranks: Int32

    @classmethod
    def of(cls, outcome: Outcome) -> Targets:
        relevant, (n, k) = outcome.relevant, outcome.ranked.shape
        lines = np.repeat(np.arange(n, dtype=np.int32), np.diff(relevant.indptr))
        there = outcome.ranked >= 0
        at = (np.nonzero(there)[0], outcome.ranked[there])
        places = np.broadcast_to(np.arange(1, k + 1, dtype=np.int32), (n, k))[there]
        table = sp.csr_matrix((places, at), shape=relevant.shape)
        ranks = np.asarray(table[lines, relevant.indices]).ravel() if len(lines) else np.zeros(0)
        return cls(lines, relevant.indices.astype(np.int32), ranks.astype(np.int32))

    def slices(self, values: Int64 | Float64, unit: str, k: int, seed: int) -> list[Slice]:
        """Share of a line's items in the group that are in its list, as a mean over the lines that have some there.

        values : (n,) of each pair, by which they are grouped.
        """
        groups = quantile_groups(values)
        found = []
        for group in range(int(groups.max(initial=-1)) + 1):
            rows = np.flatnonzero(groups == group)
            lines, at = np.unique(self.lines[rows], return_inverse=True)
            recall = np.bincount(at, self.ranks[rows] > 0) / np.bincount(at)
            row: Slice = {"from": values[rows].min().item(), "to": values[rows].max().item(), unit: len(lines)}
            found.append(row | {"targets": len(rows)} | _means({f"recall@{k}": recall}, seed))
        return found
