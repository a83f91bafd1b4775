"""What an artifact and a person's history say of a purchase."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from headrace.artifacts import Artifact
from headrace.bidding.pricing.price import make_market
from headrace.kernels.history import Merged
from headrace.kernels.predict import Candidates, Model, Persons, Table, best_promoted, item_frequencies
from headrace.kernels.price import Market, Offers
from headrace.types import Float64, Int32, Int64

MAX_COPIED = 4
"""Copies of promoted items take at most so many times the memory of the model's items."""


class PersonReader(Protocol):
    """Who asks; belongs to one artifact, whose factors it folds in with."""

    def read(self, names: Sequence[str], now_ms: int) -> Persons:
        """The persons of n names of `headrace.events.identity`, in order; an empty or unknown one is a stranger."""


@dataclass(frozen=True, slots=True)
class BidModel:
    """The part of an artifact that bidding reads.

    exchanges : name to its row of the market.   auctions : (x,) float64, how many stand behind each row.
    profile : (168,) float64.
    """

    version: str
    model: Model
    market: Market
    exchanges: dict[str, int]
    auctions: Float64
    profile: Float64

    @classmethod
    def of(cls, artifact: Artifact) -> BidModel:
        """The bidding view of an artifact; arrays stay mapped where they are large."""
        market = make_market(artifact.landscape_edges_cpm, artifact.landscape_counts)
        # plain views: Numba dispatches slowly on numpy.memmap
        popularity = np.asarray(artifact.popularity)
        frequency = np.empty(len(popularity), np.float32)
        item_frequencies(popularity, frequency)
        model = Model(
            item_factors=np.asarray(artifact.item_factors),
            popularity=popularity,
            frequency=frequency,
            weights=np.array(artifact.probability_weights, np.float32),
            bias=float(artifact.manifest.probability_bias),
            calib_x=np.array(artifact.calibration_x, np.float64),
            calib_y=np.array(artifact.calibration_y, np.float64),
        )
        exchanges = {name: row for row, name in enumerate(artifact.manifest.landscape_exchanges)}
        return cls(
            version=artifact.version,
            model=model,
            market=market,
            exchanges=exchanges,
            auctions=np.asarray(artifact.landscape_counts).sum(axis=1),
            profile=np.array(artifact.traffic_profile, np.float64),
        )


class Strangers:
    """A PersonReader that knows nobody."""

    def __init__(self, n_factors: int) -> None:
        self._n_factors = n_factors

    def read(self, names: Sequence[str], now_ms: int) -> Persons:
        n = len(names)
        nothing = np.zeros(0, np.float32)
        history = Merged(
            indptr=np.zeros(n + 1, np.int64),
            rows=np.zeros(0, np.int32),
            weights=nothing,
            n_bought=nothing,
            last_ms=np.zeros(0, np.int64),
            last_bought_ms=np.zeros(0, np.int64),
            n_events=np.zeros(n, np.float32),
            last_event_ms=np.zeros(n, np.int64),
        )
        return Persons(np.zeros((n, self._n_factors), np.float32), history, np.zeros(0, np.uint32))


def resolve_items(item_ids: Sequence[str], find_item: Callable[[str], int]) -> Int32:
    """Rows of items, -1 for those that nobody knows."""
    found = {item_id: find_item(item_id) for item_id in dict.fromkeys(item_ids)}
    return np.array([found[item_id] for item_id in item_ids], np.int32)


def lay_out(model: Model, items: Int32) -> Table:
    """The model's items once more in the order in which line items list them: read in a row, they cost half the time.

    items : rows of all line items' items, -1 for those that nobody knows.
    """
    n_items = len(model.item_factors)
    if len(items) > MAX_COPIED * n_items:
        return Table(model.item_factors, model.frequency, items)
    known = (items >= 0) & (items < n_items)
    rows = np.where(known, np.cumsum(known) - 1, -1).astype(np.int32)
    factors = model.item_factors[items[known]]
    factors.flags.writeable = model.item_factors.flags.writeable  # one type, so one compiled kernel, for both
    return Table(factors, model.frequency[items[known]], rows)


class Offerer(Protocol):
    """Says what candidates would show, and how likely that is to lead to a purchase."""

    def offers(
        self, model: Model, table: Table, persons: Persons, candidates: Candidates, time_ms: Int64
    ) -> tuple[Offers, Int32]:
        """The candidates that have an item to show, and its place in the line item, int32."""


class Predictor:
    """Calls `best_promoted` with scratch of the calling thread's own."""

    def __init__(self) -> None:
        self._local = threading.local()

    def offers(
        self, model: Model, table: Table, persons: Persons, candidates: Candidates, time_ms: Int64
    ) -> tuple[Offers, Int32]:
        """The candidates that have an item to show, and its place in the line item, int32."""
        n = len(candidates.lines)
        probability, positions = np.empty(n, np.float64), np.empty(n, np.int32)
        n_rows = max(len(persons.banned), len(model.popularity))
        n_shown = best_promoted(model, table, persons, candidates, time_ms, self._where(n_rows), probability, positions)
        if n_shown == n:
            return Offers(candidates.indptr, candidates.lines, probability), positions
        keep = positions >= 0
        n_kept = np.concatenate(([0], np.cumsum(keep)))
        return Offers(n_kept[candidates.indptr], candidates.lines[keep], probability[keep]), positions[keep]

    def _where(self, n_rows: int) -> Int32:
        where: Int32 | None = getattr(self._local, "where", None)
        if where is None or len(where) < n_rows:
            where = self._local.where = np.full(2 * n_rows + 1, -1, np.int32)
        return where
