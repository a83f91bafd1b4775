"""Every auction of a scenario, drawn beforehand: when, where, at what price, and what it is worth to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.simulate.competitors import best_bids
from headrace.simulate.loading import Plan
from headrace.simulate.scenario import Exchange, Scenario
from headrace.types import Bool, Float32, Float64, Int16, Int64

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
MONDAY_MS = 4 * DAY_MS
"""1970-01-05."""

ARRIVALS, PLACES, PRICES, VALUES, FATES, PURCHASES, HISTORY = range(7)
"""Streams of random numbers, so that what one part draws does not move another's."""


@dataclass(frozen=True, slots=True)
class Auctions:
    """n auctions in time order, of m line items.

    time_ms : (n,) int64.   exchange, country, category : (n,) int16 rows, -1 for none.   floor_cpm : (n,) int64.
    price_cpm : (n,) int64, the lowest bid that wins, fee included; ties are ours.
    probability : (n, m) float32, of a purchase after an impression, as predicted.
    answered : (n,) bool, False while our server is down.
    luck : (n,) float64 in [0, 1): whoever sees the impression buys where it lies below the true probability.
    """

    time_ms: Int64
    exchange: Int16
    country: Int16
    category: Int16
    floor_cpm: Int64
    price_cpm: Int64
    probability: Float32
    answered: Bool
    luck: Float64


def stream(scenario: Scenario, *parts: int) -> np.random.Generator:
    """The random numbers of one part of a scenario; Philox, so that they are the same on every machine."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([scenario.seed, *parts])))


def draw_auctions(plan: Plan) -> Auctions:
    """All auctions of a scenario; the same for the same scenario and seed, whatever else the process does."""
    scenario = plan.scenario
    time_ms = _arrivals(scenario)
    exchange = _choose(stream(scenario, PLACES, 0), [each.share for each in scenario.exchanges], len(time_ms))
    keep = ~_silent(scenario, time_ms, exchange)
    time_ms, exchange = time_ms[keep], exchange[keep]
    n = len(time_ms)
    country, category = np.full(n, -1, np.int16), np.full(n, -1, np.int16)
    floor, price = np.zeros(n, np.int64), np.zeros(n, np.int64)
    for number, place in enumerate(scenario.exchanges):
        rows = np.flatnonzero(exchange == number)
        rng = stream(scenario, PLACES, 1 + number)
        for column, shares in ((country, place.countries), (category, place.categories)):
            if shares:
                column[rows] = _choose(rng, list(shares.values()), len(rows))
        floor[rows] = place.floor_cpm_micros
        shocks = price_shocks(scenario, place.name, time_ms[rows])
        price[rows] = prices(stream(scenario, PRICES, number), place, time_ms[rows], shocks)
    probability = np.empty((n, len(plan.keys)), np.float32)
    for item, key in enumerate(plan.keys):
        value = scenario.values[key]
        drawn = stream(scenario, VALUES, item).standard_normal(n)
        probability[:, item] = np.minimum(value.mean * np.exp(value.sigma * drawn - value.sigma**2 / 2.0), 1.0)
    down = [(outage.at_hour, outage.hours) for outage in scenario.outages if outage.kind == "server"]
    answered = ~_during(scenario, time_ms, down)
    luck = stream(scenario, PURCHASES).random(n)
    return Auctions(time_ms, exchange, country, category, floor, price, probability, answered, luck)


def prices(rng: np.random.Generator, place: Exchange, time_ms: Int64, factor: Float64) -> Int64:
    """The lowest winning bids of n auctions of an exchange, CPM micros."""
    best = best_bids(
        rng,
        place.competitors,
        time_ms // HOUR_MS % 24,
        time_ms // DAY_MS,
        factor,
        first_price=place.auction == "first_price",
    )
    lowest = np.maximum(np.maximum(best, place.floor_cpm_micros), 1.0)
    return np.ceil(lowest / (1.0 - place.fee)).astype(np.int64)


def names_of(shares: Mapping[str, float]) -> list[str]:
    """Words in the order in which rows count them."""
    return list(shares)


def profile(scenario: Scenario) -> Float64:
    """Share of a week's requests by hour of the week, Monday 00:00 UTC first, (168,); swings are nobody's to know."""
    traffic = scenario.traffic
    shares = np.outer(traffic.weekdays, traffic.hours).ravel()
    result: Float64 = shares / shares.sum()
    return result


def price_shocks(scenario: Scenario, exchange: str, time_ms: Int64) -> Float64:
    """What competitors' bids are multiplied by at n moments."""
    factor = np.ones(len(time_ms))
    for shock in scenario.shocks:
        if shock.exchange in ("", exchange):
            factor[_during(scenario, time_ms, [(shock.at_hour, shock.hours)])] *= shock.factor
    return factor


def _arrivals(scenario: Scenario) -> Int64:
    """Times of requests: Poisson numbers a minute, evenly spread within it."""
    minutes = scenario.start_ms + MINUTE_MS * np.arange((scenario.end_ms - scenario.start_ms) // MINUTE_MS)
    hour_of_week = (minutes - MONDAY_MS) // HOUR_MS % 168
    rate = profile(scenario)[hour_of_week] * scenario.traffic.requests_per_day * 7.0 / 60.0
    for swing in scenario.traffic.swings:
        rate[_during(scenario, minutes, [(swing.at_hour, swing.hours)])] *= swing.factor
    rng = stream(scenario, ARRIVALS)
    counts = rng.poisson(rate)
    times = np.repeat(minutes, counts) + rng.integers(0, MINUTE_MS, int(counts.sum()))
    return np.sort(times)


def _silent(scenario: Scenario, time_ms: Int64, exchange: Int16) -> Bool:
    """Requests that an exchange's outage keeps from being sent."""
    silent: Bool = np.zeros(len(time_ms), bool)
    names = [each.name for each in scenario.exchanges]
    for outage in scenario.outages:
        if outage.kind == "exchange":
            here = exchange == names.index(outage.exchange) if outage.exchange else np.ones(len(time_ms), bool)
            silent |= here & _during(scenario, time_ms, [(outage.at_hour, outage.hours)])
    return silent


def _during(scenario: Scenario, time_ms: Int64, spans: Sequence[tuple[float, float]]) -> Bool:
    inside = np.zeros(len(time_ms), bool)
    for at_hour, hours in spans:
        inside |= (time_ms >= scenario.moment(at_hour)) & (time_ms < scenario.moment(at_hour + hours))
    return inside


def _choose(rng: np.random.Generator, shares: Sequence[float], n: int) -> Int16:
    edges = np.cumsum(shares) / np.sum(shares)
    return np.minimum(np.searchsorted(edges, rng.random(n), side="right"), len(shares) - 1).astype(np.int16)
