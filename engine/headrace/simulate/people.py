"""The bidder's view of a scenario: a model and people whose probability of a purchase is the scenario's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from headrace.bidding.pacing.traffic import HOURS_PER_WEEK
from headrace.bidding.predict import BidModel, Strangers
from headrace.bidding.pricing.price import make_market
from headrace.kernels.predict import Model, Persons
from headrace.kernels.price import Market
from headrace.simulate.loading import Plan
from headrace.simulate.market import DAY_MS, HISTORY, prices, stream
from headrace.types import Float32, Float64

HISTORY_AUCTIONS = 20_000
"""Prices of the days before that the bidder knows of each exchange."""
N_EDGES = 97
LOWEST_CPM, HIGHEST_CPM = 1e3, 1e9


class Visitors:
    """A `PersonReader`: whoever is named "7" is the visitor of auction 7, and buys of each line item as drawn."""

    def __init__(self, probability: Float32) -> None:
        self._probability = probability
        self._strangers = Strangers(probability.shape[1])

    def read(self, names: Sequence[str], now_ms: int) -> Persons:
        """See `headrace.bidding.predict.PersonReader`; an empty name is nobody, who buys nothing."""
        persons = self._strangers.read(names, now_ms)
        rows = [int(name) if name else -1 for name in names]
        persons.embeddings[:] = self._probability[rows]
        return persons


def bid_model(plan: Plan, traffic: Float64) -> BidModel:
    """What an artifact of the days before would say: item l has the l-th unit vector, so the product with a visitor's
    embedding is the probability itself, and the calibration leaves it as it is.

    traffic : (168,) the true profile.
    """
    n_items = len(plan.keys)
    model = Model(
        item_factors=np.eye(n_items, dtype=np.float32),
        popularity=np.zeros(n_items, np.float32),
        frequency=np.zeros(n_items, np.float32),
        weights=np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], np.float32),
        bias=0.0,
        calib_x=np.array([0.0, 1.0]),
        calib_y=np.array([0.0, 1.0]),
    )
    known = plan.scenario.knowledge
    return BidModel(
        version=f"simulated-{plan.scenario.seed}",
        model=model,
        market=_market(plan),
        exchanges={exchange.name: row + 1 for row, exchange in enumerate(plan.scenario.exchanges)},
        auctions=np.full(1 + len(plan.scenario.exchanges), HISTORY_AUCTIONS * (known.prices == "right"), np.float64),
        profile=traffic if known.traffic == "right" else np.full(HOURS_PER_WEEK, 1.0 / HOURS_PER_WEEK),
    )


def _market(plan: Plan) -> Market:
    """The landscape of a day before the start, without the scenario's shocks."""
    scenario = plan.scenario
    edges = np.unique(np.geomspace(LOWEST_CPM, HIGHEST_CPM, N_EDGES).astype(np.int64))
    counts = np.zeros((1 + len(scenario.exchanges), len(edges) - 1))
    if scenario.knowledge.prices == "right":
        for row, exchange in enumerate(scenario.exchanges):
            rng = stream(scenario, HISTORY, row)
            times = np.sort(scenario.start_ms - rng.integers(1, DAY_MS, HISTORY_AUCTIONS))
            seen = prices(rng, exchange, times, np.ones(HISTORY_AUCTIONS)) * scenario.knowledge.price_factor
            counts[1 + row] = np.histogram(np.clip(seen, edges[0], edges[-1]), edges)[0]
        shares = np.array([exchange.share for exchange in scenario.exchanges])
        counts[0] = shares @ counts[1:] / shares.sum()
    return make_market(edges, counts)
