"""The regret of a recording: per campaign and day, as numbers, as a line and as a page with a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.decisions.reading import read_recording
from headrace.errors import ConfigError, nearest
from headrace.page import Section, missing, write_page
from headrace.plots import bars, curves
from headrace.types import Float64
from headrace_training.intervals import interval
from headrace_training.options import check_seed
from headrace_training.progress import say, track
from headrace_training.regret.chances import Chances, chances_of
from headrace_training.regret.ladder import PARTS, Ladder, climb, forgone
from headrace_training.regret.purchases import Calibration, calibrations_of

MAX_DRAWS = 1000
NOTE = (
    "Gain is value less spend. Of the best in hindsight so much was gained; the rest is what each limit took, found by "
    "taking back one after another: pacing, predictions of purchases (prediction) and of prices (prices), shading, "
    "highest bids (caps), stops, promises, budget."
)
NOT_MEASURED = "no purchases were reported, so value is as predicted, and what wrong predictions cost is not measured"


def measure(folder: Path, *, campaign: str = "", since_ms: int = 0, draws: int = 10, seed: int = 0) -> dict[str, Any]:
    """The regret of each campaign and local day of a recording.

    since_ms : only auctions from then on.   draws : how often unknown prices are drawn.

    Raises DataError for records that cannot be read, ConfigError for options that are wrong.
    """
    check_seed(seed)
    if not 1 <= draws <= MAX_DRAWS:
        raise ConfigError("--draws", draws, f"a whole number from 1 to {MAX_DRAWS}")
    recording = read_recording(folder, since_ms)
    known = {each.campaign_id for board in recording.boards for each in board.campaigns}
    if campaign and campaign not in known:
        raise ConfigError("--campaign", campaign, "one that is recorded", nearest(campaign, known))
    calibrations = calibrations_of(recording)
    days = [
        _day(chances, calibrations.get(chances.campaign_id), draws, seed)
        for chances in track(chances_of(recording, campaign), "campaign days")
    ]
    return {
        "draws": draws,
        "seed": seed,
        "torn_segments": len(recording.torn),
        "torn_files": recording.torn,
        "days": [day for day, _, _ in days],
        "campaigns": _campaigns(days, calibrations),
    }


def line(found: dict[str, Any]) -> str:
    """One campaign or day in words."""
    if found["share_of_optimum"] is None:
        return "nothing could have been gained"
    lost = ", ".join(f"{name} {share:.1%}" for name, share in found["parts"].items() if share and share >= 0.0005)
    return (
        f"{found['share_of_optimum']:.1%} of the best in hindsight, {_percent(found['share_within_budget'])} of the "
        f"best within the budget; the rest: {lost or 'nothing'}; {found['known_price_share']:.0%} of the prices known; "
        f"{_predicted(found)}"
    )


def _predicted(found: dict[str, Any]) -> str:
    if found["parts"]["prediction"] is None:
        return "prediction not measured, since no purchases were reported"
    known = found["prediction_interval"]
    share = found["parts"]["prediction"]
    return f"prediction {share:.1%}" + (f" ({known[0]:.1%} to {known[1]:.1%})" if known else "")


def write_report(path: Path, found: dict[str, Any]) -> None:
    """Write the page, where its packages are installed."""
    if lacking := missing():
        say(f"no HTML report: {' and '.join(lacking)} not installed; pip install 'headrace[train]'")
        return
    sections = [
        Section(
            "Campaigns",
            NOTE,
            (),
            ("campaign", "regret"),
            [[each["campaign_id"], line(each)] for each in found["campaigns"]],
        )
    ]
    for each in found["campaigns"]:
        days = [day for day in found["days"] if day["campaign_id"] == each["campaign_id"]]
        sections.append(_section(each, days))
    write_page(path, "Regret", sections)
    say(f"report: {path}")


Day = tuple[dict[str, Any], Float64, Float64]
"""The report of one day; its gains: actual, eight parts, value and spend, value within the budget, (12,); what
predictions cost in each draw, and the best in hindsight of that, (draws, 2), no rows where that is not known. All
micros."""


def _day(chances: Chances, calibration: Calibration | None, draws: int, seed: int) -> Day:
    rng = np.random.default_rng([seed, *chances.campaign_id.encode(), *chances.day.encode()])
    certain = bool(chances.prices.known.all())
    worlds = [chances.prices.draw(rng) for _ in range(1 if certain else draws)]
    value = chances.value * calibration.factors(chances.probability) if calibration is not None else None
    rows = np.array([_row(climb(chances, prices, value)) for prices in worlds])
    cost = _costs(chances, calibration, [worlds[number % len(worlds)] for number in range(draws)], rng)
    known = float(np.average(chances.prices.known, weights=chances.weight))
    shares = [share for share in (_share(row) for row in rows) if share is not None]
    return (
        {
            "campaign_id": chances.campaign_id,
            "day": chances.day,
            "currency": chances.currency,
            "auctions": float(chances.weight.sum()),
            "budget_micros": chances.budget if np.isfinite(chances.budget) else None,
            **_told(rows.mean(axis=0), known, cost),
            "interval": interval(np.array(shares)) if len(shares) > 1 else None,
        },
        rows.mean(axis=0),
        cost,
    )


def _costs(
    chances: Chances, calibration: Calibration | None, worlds: Sequence[Float64], rng: np.random.Generator
) -> Float64:
    """What was lost by bids made of predicted values, once for each world of prices and a drawn calibration."""
    if calibration is None:
        return np.zeros((0, 2))
    thought = chances.value * calibration.factors(chances.probability)
    costs = []
    for prices in worlds:
        drawn = chances.value * calibration.factors(chances.probability, calibration.draw(rng))
        best = float(np.maximum(drawn - prices, 0.0) @ chances.weight) / 1000.0
        costs.append((forgone(chances, prices, thought, drawn), best))
    return np.array(costs)


def _row(ladder: Ladder) -> Float64:
    return np.array([ladder.actual, *ladder.parts, ladder.value, ladder.spend, ladder.value_within_budget])


def _share(row: Float64) -> float | None:
    best = float(row[: 1 + len(PARTS)].sum())
    return float(row[0]) / best if best > 0.0 else None


def _told(row: Float64, known: float, cost: Float64) -> dict[str, Any]:
    best = float(row[: 1 + len(PARTS)].sum())
    within = best - float(row[len(PARTS)])
    parts: dict[str, float | None] = {
        name: float(row[1 + place]) / best if best > 0.0 else 0.0 for place, name in enumerate(PARTS)
    }
    if not len(cost):
        parts["prediction"] = None
    return {
        "gain_micros": float(row[0]),
        "value_micros": float(row[-3]),
        "spend_micros": float(row[-2]),
        "optimum_micros": best,
        "share_of_optimum": float(row[0]) / best if best > 0.0 else None,
        "share_within_budget": float(row[0]) / within if within > 0.0 else None,
        "share_of_value_within_budget": float(row[-3] / row[-1]) if row[-1] > 0.0 else None,
        "parts": parts,
        "prediction_interval": interval(cost[:, 0] / cost[:, 1]) if len(cost) > 1 and cost[:, 1].all() else None,
        "known_price_share": known,
    }


def _campaigns(days: Sequence[Day], calibrations: Mapping[str, Calibration]) -> list[dict[str, Any]]:
    """All days of each campaign together, and how its predictions came true."""
    found = []
    for name in dict.fromkeys(day["campaign_id"] for day, _, _ in days):
        mine = [each for each in days if each[0]["campaign_id"] == name]
        auctions = [day["auctions"] for day, _, _ in mine]
        known = float(np.average([day["known_price_share"] for day, _, _ in mine], weights=auctions))
        row, cost = (np.sum(column, axis=0) for column in zip(*(each[1:] for each in mine), strict=True))
        purchases = calibrations[name].told() if name in calibrations else None
        told = {"days": len(mine), **_told(row, known, cost), "purchases": purchases}
        found.append({"campaign_id": name, "currency": mine[0][0]["currency"], **told})
    return found


def _section(campaign: dict[str, Any], days: Sequence[dict[str, Any]]) -> Section:
    """A day a row, where each day's share went as curves, and how predictions came true."""
    shown = [day for day in days if day["share_of_optimum"] is not None]
    places = list(range(1, len(shown) + 1))
    series = {"gained": (places, [day["share_of_optimum"] for day in shown])}
    purchases = campaign["purchases"]
    measured = [part for part in PARTS if purchases is not None or part != "prediction"]
    for part in measured:
        if any(day["parts"][part] >= 0.0005 for day in shown):
            series[part] = (places, [day["parts"][part] for day in shown])
    total = {part: float(np.mean([day["parts"][part] for day in shown])) for part in measured} if shown else {}
    drawn = [curves("day", "share of the best in hindsight", series)] if len(shown) > 1 else []
    if shown:
        gained = float(np.mean([day["share_of_optimum"] for day in shown]))
        drawn.insert(0, bars("share of the best in hindsight", ["gained", *total], [gained, *total.values()]))
    if purchases is not None:
        drawn.append(_calibration_plot(purchases["bins"]))
    header = ("day", "gained", *PARTS, "known prices", "spend")
    rows = [
        [
            day["day"],
            _percent(day["share_of_optimum"]),
            *(_percent(day["parts"][part]) for part in PARTS),
            _percent(day["known_price_share"]),
            f"{day['spend_micros'] / 1e6:.2f} {day['currency']}",
        ]
        for day in days
    ]
    return Section(campaign["campaign_id"], _purchases(purchases), drawn, header, rows)


def _calibration_plot(bins: Sequence[dict[str, Any]]) -> str:
    names = [f"{each['from_probability']:.2g} to {each['to_probability']:.2g}" for each in bins]
    factors, intervals = [each["factor"] for each in bins], [each["interval"] for each in bins]
    return bars("purchases that came, of one predicted, by predicted probability", names, factors, intervals)


def _purchases(found: dict[str, Any] | None) -> str:
    if found is None:
        return f"Prediction: {NOT_MEASURED}."
    return f"Of {found['predicted']:.1f} purchases predicted and due {found['reported']:.1f} came."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
