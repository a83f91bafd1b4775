"""The regret meter on made-up records whose loss is known by construction: each is found under its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.decisions.batch import RecordedModel
from headrace.decisions.catalog import RecordedBoard
from headrace.decisions.layout import AUCTION, CANDIDATE
from headrace.decisions.reading import Outcomes, Recording
from headrace.errors import ConfigError, DataError
from headrace.kernels.price import Market, shade
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2
from headrace_training.kernels.surplus import shade_values
from headrace_training.regret.chances import chances_of, local_days
from headrace_training.regret.ladder import PARTS, climb
from headrace_training.regret.report import line, measure

NOON_MS = 1_699_963_200_000
EDGES = np.geomspace(1e5, 1e9, 200)


def rates_of(prices: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(prices), EDGES, side="right") / len(prices)


def recorded(
    value: np.ndarray,
    price: np.ndarray,
    bid: np.ndarray,
    *,
    first: bool = False,
    daily_micros: int | None = None,
    max_bid_cpm: int = 10**9,
    rates: np.ndarray | None = None,
    reason: np.ndarray | None = None,
    told: bool = True,
    premium: int = 0,
) -> Recording:
    """A day of one campaign with one line item; who bids as much as the price wins."""
    n = len(value)
    won = bid >= price
    paid = bid if first else price
    auctions = np.zeros(n, AUCTION)
    auctions["time_ms"] = NOON_MS + np.arange(n)
    auctions["value_cpm"], auctions["bid_cpm"] = np.where(bid > 0, value, 0), bid
    auctions["first_price"], auctions["weight"] = first, 1.0
    auctions["n_candidates"], auctions["candidate_start"] = 1, np.arange(n)
    auctions["line"] = np.where(bid > 0, 0, -1)
    auctions["reason"] = np.where(bid > 0, 0, pb.NO_BID_REASON_PACED) if reason is None else reason
    candidates = np.zeros(n, CANDIDATE)
    candidates["value_cpm"], candidates["premium_cpm"] = value, premium
    spent = np.concatenate([[0.0], np.cumsum(np.where(won, paid, 0))[:-1]])
    candidates["affordable_cpm"] = 10**18 if daily_micros is None else daily_micros * 1000 - spent
    line = campaigns_pb2.LineItem(line_item_id="line")
    campaign = campaigns_pb2.Campaign(campaign_id="spring", currency="USD", time_zone="UTC", line_items=[line])
    if daily_micros is not None:
        campaign.limits.daily_micros = daily_micros
    board = RecordedBoard(1, [campaign], np.array([max_bid_cpm]), np.array([10**7]), [{}, {}, {}], {"USD": 0})
    market = Market(EDGES, (rates_of(price) if rates is None else rates)[None, :])
    outcomes = Outcomes(
        won=won,
        lost=~won & (bid > 0),
        withdrawn=np.zeros(n, bool),
        price_cpm=np.where(won, paid, -1).astype(np.int64),
        minimum_cpm=(price if told else np.full(n, -1)).astype(np.int64),
    )
    model = RecordedModel("v1", market, {}, np.ones(168) / 168)
    return Recording(auctions, candidates, np.zeros(0, np.int32), outcomes, [board], [model], [""], [])


@pytest.fixture
def day() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    value = np.rint(4e6 * np.exp(0.7 * rng.normal(size=3_000)))
    return value, np.rint(4e6 * np.exp(0.6 * rng.normal(size=3_000)))


def parts_of(recording: Recording) -> dict[str, float]:
    """Shares of the best in hindsight: "gained", and where the rest went."""
    (chances,) = chances_of(recording)
    ladder = climb(chances, chances.prices.draw(np.random.default_rng(0)))
    best = ladder.actual + ladder.parts.sum()
    return {"gained": ladder.actual / best, **dict(zip(PARTS, ladder.parts / best, strict=True))}


def only(parts: dict[str, float], *names: str, within: float = 0.002) -> bool:
    return all(share <= within for name, share in parts.items() if name not in ("gained", *names))


def knapsack(value: np.ndarray, price: np.ndarray, budget_micros: float) -> float:
    """Gain of the fractional knapsack over what is worth its price, micros."""
    rows = np.flatnonzero(value >= price)
    rows = rows[np.argsort(-value[rows] / price[rows], kind="stable")]
    left, gain = budget_micros * 1000.0, 0.0
    for row in rows:
        part = min(1.0, left / price[row])
        gain += part * (value[row] - price[row]) / 1000.0
        left -= part * price[row]
        if part < 1.0:
            break
    return gain


def test_whoever_bids_the_value_without_limits_has_nothing_to_regret(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    assert parts_of(recorded(value, price, value))["gained"] == 1.0


def test_only_pacing_was_wrong(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    bid = value.copy()
    bid[np.cumsum(np.where(bid >= price, price, 0)) > 2_000_000_000] = 0  # all spent before the day was over
    spent = int(price[bid >= price].sum() / 1000)
    parts = parts_of(recorded(value, price, bid, daily_micros=spent))
    assert parts["pacing"] > 0.1
    assert only(parts, "pacing", "budget")


def test_a_constant_multiplier_that_meets_the_budget_paces_perfectly(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    bid = np.rint(0.6 * value)
    spent = int(price[bid >= price].sum() / 1000)
    parts = parts_of(recorded(value, price, bid, daily_micros=spent))
    assert only(parts, "budget")
    assert parts["budget"] > 0.05


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_the_best_within_the_budget_is_the_fractional_knapsack(
    day: tuple[np.ndarray, np.ndarray], share: float
) -> None:
    value, price = day
    budget = int(share * price[value >= price].sum() / 1000)
    (chances,) = chances_of(recorded(value, price, np.zeros(3_000), daily_micros=budget))
    ladder = climb(chances, price)
    assert ladder.rungs[5] == pytest.approx(knapsack(value, price, budget), rel=1e-6)


def test_only_shading_was_wrong(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    bid = np.empty(len(value))
    shade_values(value, np.ones(len(value)), EDGES, rates_of(price), bid)
    parts = parts_of(recorded(value, price, np.floor(bid), first=True))
    assert parts["shading"] > 0.2
    assert only(parts, "shading", within=0.01)


def test_a_wrong_landscape_is_prices(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    thought = rates_of(5 * price)
    bid = np.empty(len(value))
    shade_values(value, np.ones(len(value)), EDGES, thought, bid)
    parts = parts_of(recorded(value, price, np.floor(bid), first=True, rates=thought))
    assert parts["prices"] > 0.05
    assert only(parts, "prices", "shading", within=0.03)


def test_a_highest_bid_is_caps(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    parts = parts_of(recorded(value, price, np.minimum(value, 3_000_000), max_bid_cpm=3_000_000))
    assert parts["caps"] > 0.1
    assert only(parts, "caps")


def test_a_brake_is_stops(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    braked = np.arange(3_000) < 1_000
    reason = np.where(braked, pb.NO_BID_REASON_BRAKE, 0)
    parts = parts_of(recorded(value, price, np.where(braked, 0, value), reason=reason))
    assert parts["stops"] == pytest.approx(1 / 3, abs=0.05)
    assert only(parts, "stops")


def test_a_small_budget_is_budget(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    bid = np.rint(0.2 * value)
    parts = parts_of(recorded(value, price, bid, daily_micros=int(price[bid >= price].sum() / 1000)))
    assert parts["budget"] > 0.5
    assert only(parts, "budget")


def test_a_promise_of_impressions_is_promises_and_no_value(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = day
    bid = value + 3_000_000
    recording = recorded(value, price, bid, premium=3_000_000)
    (chances,) = chances_of(recording)
    ladder = climb(chances, price)
    won = bid >= price
    assert ladder.value == pytest.approx(value[won].sum() / 1000)
    assert ladder.actual == pytest.approx((value - price)[won].sum() / 1000)
    parts = parts_of(recording)
    assert parts["promises"] == pytest.approx(
        np.maximum(price - value, 0)[won].sum() / np.maximum(value - price, 0).sum()
    )
    assert parts["promises"] > 0.1
    assert only(parts, "promises")


@given(
    seed=st.integers(0, 2**32 - 1), first=st.booleans(), told=st.booleans(), budget=st.none() | st.integers(1, 10**6)
)
def test_gain_and_parts_add_up_and_no_part_is_negative(seed: int, first: bool, told: bool, budget: int | None) -> None:
    rng = np.random.default_rng(seed)
    value, price = np.rint(np.exp(rng.normal(14, 1, (2, 60))))
    bid = np.rint(value * rng.choice([0.0, 0.3, 1.0], 60))
    (chances,) = chances_of(recorded(value, price, bid, first=first, told=told, daily_micros=budget))
    prices = chances.prices.draw(rng)
    ladder = climb(chances, prices)
    assert (ladder.parts >= 0).all()
    assert ladder.actual + ladder.parts.sum() == pytest.approx(max(ladder.actual, ladder.rungs.max()))
    assert ladder.rungs[-1] == pytest.approx(np.maximum(value - prices, 0).sum() / 1000)
    assert (ladder.rungs <= ladder.rungs[-1] * (1 + 1e-9) + 1e-9).all()


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1e9)), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_values_are_shaded_as_the_bidder_does(pairs: list[tuple[float, float]], seed: int) -> None:
    rates = np.sort(np.random.default_rng(seed).random(len(EDGES)))
    value, floor = np.array(pairs).T
    out = np.empty(len(pairs))
    shade_values(value, floor, EDGES, rates, out)
    for worth, least, bid in zip(value.tolist(), floor.tolist(), out.tolist(), strict=True):
        assert bid == (shade(worth, least, EDGES, rates) if worth >= least and worth > 0 else 0.0)


def test_days_are_those_of_the_campaign_s_zone() -> None:
    times = np.array([NOON_MS, NOON_MS + 11 * 3_600_000 - 1, NOON_MS + 11 * 3_600_000])
    assert local_days(times, "Europe/Berlin").tolist() == ["2023-11-14", "2023-11-14", "2023-11-15"]


def test_an_auction_that_another_campaign_bid_for_is_not_ours_to_regret(day: tuple[np.ndarray, np.ndarray]) -> None:
    value, price = (column[:100] for column in day)
    recording = recorded(value, price, value)
    other = campaigns_pb2.Campaign(campaign_id="winter", currency="USD", time_zone="UTC")
    other.line_items.add(line_item_id="other")
    board = recording.boards[0]
    recording.boards[0] = RecordedBoard(
        1, [*board.campaigns, other], np.full(2, 10**9), np.full(2, 10**7), board.vocabularies, board.currencies
    )
    recording.auctions["line"][:40] = 1
    (chances,) = chances_of(recording)
    assert (chances.campaign_id, len(chances.value)) == ("spring", 60)


def test_records_that_cannot_be_read_and_wrong_options_are_refused(headrace_train: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no decision records"):
        measure(tmp_path)
    for wrong in ({"draws": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            measure(tmp_path, **wrong)  # type: ignore[arg-type]
    assert headrace_train("regret", "--records", tmp_path)[:2] == (2, "")


def test_a_report_says_one_line_and_draws_a_plot(
    headrace_train: Any, day: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value, price = day
    recording = recorded(value, price, np.rint(0.6 * value), told=False)
    recording.auctions["time_ms"][1_500:] += 86_400_000
    monkeypatch.setattr("headrace_training.regret.report.read_recording", lambda folder, since_ms: recording)
    options = ["regret", "--records", str(tmp_path), "--out", str(tmp_path / "regret.html"), "--draws", "3"]
    found = json.loads(headrace_train(*options, "--json")[1])
    assert [each["day"] for each in found["days"]] == ["2023-11-14", "2023-11-15"]
    (campaign,) = found["campaigns"]
    assert (campaign["parts"].pop("prediction"), campaign["purchases"]) == (None, None)
    total = campaign["share_of_optimum"] + sum(campaign["parts"].values())
    campaign["parts"]["prediction"] = None
    assert total == pytest.approx(1.0)
    for each in found["days"]:
        low, high = each["interval"]
        assert low <= each["share_of_optimum"] <= high
    assert 0 < campaign["known_price_share"] < 1
    page = (tmp_path / "regret.html").read_text()
    assert page.count("<svg") == 2
    assert line(campaign) in page
    assert line(campaign).endswith("prediction not measured, since no purchases were reported")
    assert "what wrong predictions cost is not measured" in page
    assert "<script" not in page
    told = headrace_train(*options)[1].splitlines()
    assert told[-1] == f"spring, 2 days: {line(campaign)}"
    with pytest.raises(ConfigError, match="winter"):
        measure(tmp_path, campaign="winter")
