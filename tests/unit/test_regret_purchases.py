"""The regret meter where purchases are reported: made-up days whose true values are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from headrace.bidding.pacing.delay import LONGEST_MS, mean_delay
from headrace.decisions.batch import RecordedModel
from headrace.decisions.catalog import RecordedBoard
from headrace.decisions.layout import ACTION, AUCTION, CANDIDATE
from headrace.decisions.reading import Outcomes, Recording
from headrace.kernels.price import Market
from headrace.v1 import campaigns_pb2
from headrace_training.cli import app
from headrace_training.regret.chances import chances_of
from headrace_training.regret.ladder import PARTS, climb
from headrace_training.regret.purchases import calibrations_of
from headrace_training.regret.report import line, measure

WORTH = 200_000
HOUR_MS = 3_600_000
NOON_MS = 1_699_963_200_000
N = 20_000

Truth = Callable[[np.ndarray], np.ndarray]
"""Purchases that come of one predicted, by its probability."""


def exact(probability: np.ndarray) -> np.ndarray:
    return np.ones(len(probability))


def half(probability: np.ndarray) -> np.ndarray:
    return np.full(len(probability), 0.5)


def steep(probability: np.ndarray) -> np.ndarray:
    """Small probabilities come to much less, large ones to more."""
    return np.clip((probability / 0.015) ** 2, 0.05, 4.0)


def sold(
    truth: Truth, seed: int = 0, *, daily_micros: int = 10**12, multiplier: float = 1.0, delay_ms: float = 0.0
) -> Recording:
    """A second-price day on which values are bid times a multiplier, and what is won sells as the truth says."""
    rng = np.random.default_rng(seed)
    value = np.rint(4e6 * np.exp(0.7 * rng.normal(size=N)))
    price = np.rint(3e6 * np.exp(0.6 * rng.normal(size=N)))
    bid = np.rint(multiplier * value)
    won = bid >= price
    auctions, candidates = np.zeros(N, AUCTION), np.zeros(N, CANDIDATE)
    auctions["time_ms"] = NOON_MS + np.linspace(0, 11 * HOUR_MS, N).astype(np.int64)
    auctions["value_cpm"], auctions["bid_cpm"], auctions["weight"] = value, bid, 1.0
    auctions["n_candidates"], auctions["candidate_start"] = 1, np.arange(N)
    auctions["probability"] = candidates["probability"] = value / 1000.0 / WORTH
    candidates["value_cpm"], candidates["affordable_cpm"] = value, 10**18
    campaign = campaigns_pb2.Campaign(campaign_id="spring", currency="USD", time_zone="UTC")
    campaign.line_items.add(line_item_id="line")
    campaign.limits.daily_micros = daily_micros
    board = RecordedBoard(1, [campaign], np.array([10**12]), np.array([WORTH]), [{}, {}, {}], {"USD": 0})
    edges = np.geomspace(1e5, 1e9, 50)
    market = Market(edges, (np.searchsorted(np.sort(price), edges, side="right") / N)[None, :])
    paid = np.where(won, price, -1).astype(np.int64)
    outcomes = Outcomes(won, ~won, np.zeros(N, bool), paid, price.astype(np.int64))
    rows, actions = purchases(auctions, np.flatnonzero(won), truth, delay_ms, rng)
    model = RecordedModel("v1", market, {}, np.ones(168) / 168)
    terms = np.zeros(0, np.int32)
    return Recording(auctions, candidates, terms, outcomes, [board], [model], [""], [], actions, rows)


def purchases(
    auctions: np.ndarray, won: np.ndarray, truth: Truth, delay_ms: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Whose impressions sold, and the reports of it that come by the end of the records."""
    probability = auctions["probability"][won]
    bought = won[rng.random(len(won)) < probability * truth(probability)]
    heard = auctions["time_ms"][bought] + 1 + np.rint(delay_ms * rng.exponential(size=len(bought))).astype(np.int64)
    seen = heard <= auctions["time_ms"][-1]
    actions = np.zeros(int(seen.sum()), ACTION)
    actions["time_ms"] = actions["heard_ms"] = heard[seen]
    actions["count"] = 1
    return bought[seen], actions


def prediction(recording: Recording, truth: Truth | None) -> float:
    """That part, by the truth or, left out, as it is measured."""
    (chances,) = chances_of(recording)
    if truth is not None:
        factors = truth(chances.probability)
    else:
        factors = calibrations_of(recording)["spring"].factors(chances.probability)
    ladder = climb(chances, chances.prices.high, chances.value * factors)
    return float(ladder.parts[PARTS.index("prediction")] / (ladder.actual + ladder.parts.sum()))


def test_right_predictions_cost_nothing() -> None:
    recording = sold(exact)
    assert prediction(recording, exact) == 0.0
    assert prediction(recording, None) < 0.01
    told = calibrations_of(recording)["spring"].told()
    assert told["reported"] == pytest.approx(told["predicted"], rel=0.15)
    assert sum(low < 1.0 < high for low, high in (each["interval"] for each in told["bins"])) >= len(told["bins"]) - 1


@pytest.mark.parametrize(("truth", "least"), [(half, 0.1), (steep, 0.02)])
def test_what_wrong_predictions_cost_is_found(truth: Truth, least: float) -> None:
    recording = sold(truth)
    cost = prediction(recording, truth)
    assert cost > least
    assert prediction(recording, None) == pytest.approx(cost, abs=0.25 * cost + 0.01)


def test_a_budget_makes_up_for_predictions_that_are_too_high_throughout() -> None:
    recording = sold(half, daily_micros=1_000_000, multiplier=0.3)
    assert prediction(recording, None) < 0.03


def test_wrong_order_costs_under_a_budget_too() -> None:
    recording = sold(steep, daily_micros=12_000, multiplier=0.5)
    cost = prediction(recording, steep)
    assert cost > 0.01
    assert prediction(recording, None) == pytest.approx(cost, abs=0.5 * cost + 0.01)


def test_reports_that_are_still_to_come_are_not_missed() -> None:
    recording = sold(exact, delay_ms=6 * HOUR_MS)
    told = calibrations_of(recording)["spring"].told()
    won = recording.outcomes.won
    assert told["predicted"] < 0.75 * recording.auctions["probability"][won].sum()
    assert told["reported"] == pytest.approx(told["predicted"], rel=0.15)


def test_the_mean_of_cut_delays_is_found() -> None:
    rng = np.random.default_rng(0)
    room = rng.uniform(1, 10, 40_000) * HOUR_MS
    delay = rng.exponential(5 * HOUR_MS, 40_000)
    seen = delay <= room
    assert delay[seen].mean() < 3 * HOUR_MS
    found = mean_delay(delay[seen], room[seen], np.ones(int(seen.sum())))
    assert found == pytest.approx(5 * HOUR_MS, rel=0.05)
    assert mean_delay(room, room, np.ones(len(room))) == pytest.approx(LONGEST_MS)
    assert mean_delay(np.full(9, 5.0), np.full(9, 1e12), np.ones(9)) == pytest.approx(5.0)


def test_the_interval_covers_the_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    covered = 0
    for seed in range(6):
        recording = sold(half, seed)
        monkeypatch.setattr("headrace_training.regret.report.read_recording", lambda *_, found=recording: found)
        (campaign,) = measure(tmp_path, draws=30)["campaigns"]
        low, high = campaign["prediction_interval"]
        covered += low <= prediction(recording, half) <= high
    assert covered >= 5


def test_worth_and_what_was_taken_back_count() -> None:
    recording = sold(exact)
    before = calibrations_of(recording)["spring"].told()["reported"]
    recording.actions["worth_micros"] = 3 * WORTH
    assert calibrations_of(recording)["spring"].told()["reported"] == pytest.approx(3 * before)
    recording.actions["worth_micros"] = 0
    back = recording.actions[:50].copy()
    back["count"] = -1
    both = replace(
        recording,
        actions=np.concatenate([recording.actions, back]),
        action_row=np.concatenate([recording.action_row, recording.action_row[:50]]),
    )
    assert calibrations_of(both)["spring"].told()["reported"] == pytest.approx(before - 50)


def test_calibrated_probabilities_are_monotone() -> None:
    rng = np.random.default_rng(3)
    recording = sold(lambda probability: rng.uniform(0.2, 1.8, len(probability)))
    calibration = calibrations_of(recording)["spring"]
    probability = np.geomspace(1e-4, 0.5, 500)
    for of_bins in (None, calibration.draw(rng)):
        calibrated = probability * calibration.factors(probability, of_bins)
        assert (np.diff(calibrated) >= -1e-15).all()


def test_the_report_tells_how_predictions_came_true(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recording = sold(half)
    monkeypatch.setattr("headrace_training.regret.report.read_recording", lambda folder, since_ms: recording)
    options = ["regret", "--records", str(tmp_path), "--out", str(tmp_path / "regret.html")]
    found = json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)
    (campaign,), (day,) = found["campaigns"], found["days"]
    assert campaign["share_of_optimum"] + sum(campaign["parts"].values()) == pytest.approx(1.0)
    assert campaign["parts"] == pytest.approx(day["parts"])
    low, high = campaign["prediction_interval"]
    assert 0.0 < low <= campaign["parts"]["prediction"] <= high
    assert campaign["purchases"]["reported"] < 0.7 * campaign["purchases"]["predicted"]
    assert f"; prediction {campaign['parts']['prediction']:.1%} ({low:.1%} to {high:.1%})" in line(campaign)
    page = (tmp_path / "regret.html").read_text()
    assert page.count("<svg") == 2
    assert "purchases predicted and due" in page
    single = measure(tmp_path, draws=1)["campaigns"][0]
    assert (single["prediction_interval"], single["parts"]["prediction"] > 0.0) == (None, True)
