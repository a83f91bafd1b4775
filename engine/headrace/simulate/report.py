"""The HTML report of a run: tables and plots in one file, without scripts and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace.page import Section, write_page
from headrace.plots import bars, curves
from headrace.simulate.disturbances import BOUND
from headrace.simulate.driver import Run
from headrace.simulate.outcome import Result
from headrace.types import Float64

MAX_POINTS = 720
"""Points of one line in a plot, at most."""


def write_report(path: Path, run: Run, results: Sequence[Result], summary: Mapping[str, Any]) -> None:
    """Write the page; ``summary`` as of `headrace.simulate.summary`. OSError when it cannot be written."""
    sections = [_overview(summary)]
    for result, numbers in zip(results, summary["campaigns"], strict=True):
        sections += _campaign(result, numbers)
    sections += [_money(summary), _silence(summary)]
    write_page(path, f"{run.plan.scenario.name}, seed {run.plan.scenario.seed}", sections)


def _overview(summary: Mapping[str, Any]) -> Section:
    header = (
        "campaign",
        "budget",
        "spent",
        "delivered",
        "overspend, micros",
        "furthest from plan",
        "of the best value",
    )
    rows = [
        [
            each["campaign_id"],
            _money_text(each["budget_micros"]),
            _money_text(each["spent_micros"]),
            _share(each["delivered"]),
            str(each["overspend_micros"]),
            _share(each["largest_deviation"]),
            _share(each["share_of_optimum"]),
        ]
        for each in summary["campaigns"]
    ]
    note = (
        f"{summary['auctions']:,} auctions in {summary['days']:g} days from {summary['start']}: "
        f"{summary['bids']:,} bids, {summary['wins']:,} wins. "
        "The best value is that of the hindsight optimum, which knows every price beforehand."
    )
    names = [each["campaign_id"] for each in summary["campaigns"]]
    shares = [each["share_of_optimum"] or 0.0 for each in summary["campaigns"]]
    return Section("All campaigns", note, [bars("share of the best value", names, shares)], header, rows)


def _campaign(result: Result, numbers: Mapping[str, Any]) -> list[Section]:
    curve = result.curve
    hours = np.arange(1, len(curve.spent) + 1) / 60.0
    units = 1e6
    spend = {"spent": _line(hours, curve.spent / units)}
    if np.isfinite(curve.planned).any():
        spend["plan"] = _line(hours, curve.planned / units)
    plots = [curves("hours since the start", "money", spend)]
    if np.isfinite(curve.gap).any():
        plots.append(
            curves("hours since the start", "spend less plan, of the budget", {"gap": _line(hours, curve.gap)})
        )
    plots.append(curves("hours since the start", "pacing multiplier", {"multiplier": _line(hours, curve.multiplier)}))
    rate = _windows(curve.wins, curve.bids)
    plots.append(curves("hours since the start", "win rate, 15 minutes", {"win rate": _line(hours[14::15], rate)}))
    name = result.campaign.campaign_id
    facts = [[label, text] for label, text in _facts(numbers)]
    events = [
        [each["what"], f"{each['at_hour']:g}", _share(each["deviation"]), _minutes(each["recovery_minutes"])]
        for each in numbers["disturbances"]
    ]
    found = [Section(f"Campaign {name}", "", plots, ("", ""), facts)]
    if events:
        note = f"Back on plan: spend stays within {BOUND:.0%} of the budget of it."
        header = ("what happened", "hour", "furthest from plan until the next", "back on plan after")
        found.append(Section(f"What happened to {name}", note, (), header, events))
    return found


def _facts(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("bids, wins", f"{numbers['bids']:,}, {numbers['wins']:,}"),
        ("win rate", _share(numbers["win_rate"])),
        ("value won", _money_text(numbers["value_micros"])),
        ("best value", _money_text(numbers["best_value_micros"])),
        ("regret: value left to the optimum", _share(_rest(numbers["share_of_optimum"]))),
        ("value less cost, of the best", _share(numbers["share_of_surplus"])),
        ("purchases expected, drawn", f"{numbers['expected_purchases']:,.1f}, {numbers['purchases']:,}"),
        ("cost of a purchase (CPA)", _money_text(numbers["cpa_micros"])),
        ("worth of purchases for the money (ROAS)", _plain(numbers["roas"])),
        ("spent beyond the goal", _share(numbers["goal_overrun"])),
    ]


def _money(summary: Mapping[str, Any]) -> Section:
    ledger = summary["ledger"]
    verdict = "equal" if ledger["books_equal"] else "NOT equal: " + ", ".join(ledger["wrong_accounts"])
    note = f"The ledger's books and the exchanges' accepted bills are {verdict}. Micros."
    rows = [[name.removesuffix("_micros"), f"{value:,}"] for name, value in ledger.items() if name.endswith("_micros")]
    return Section("Money", note, (), ("", "micros"), rows)


def _silence(summary: Mapping[str, Any]) -> Section:
    rows = [[f"no bid: {name}", f"{count:,}"] for name, count in summary["no_bids"].items()]
    rows += [[f"notice: {name}", f"{count:,}"] for name, count in summary["notices"].items()]
    rows.append(["requests that our server did not answer", f"{summary['unanswered']:,}"])
    explored = summary["exploration"]
    note = (
        f"{explored['bids']:,} bids were drawn at random to learn from; they won {explored['wins']:,} impressions and "
        f"gave up about {_money_text(explored['given_up_micros'])} of value less cost."
    )
    return Section("No bids, notices, exploration", note, (), ("", "how many"), rows)


def _line(x: Float64, y: Float64) -> tuple[list[float], list[float]]:
    """Points of a line, thinned out; gaps where a value is not known are left out."""
    known = np.flatnonzero(np.isfinite(y))
    step = max(1, len(known) // MAX_POINTS)
    kept = known[::step]
    return x[kept].tolist(), y[kept].tolist()


def _windows(top: Any, bottom: Any) -> Float64:
    n = len(top) // 15 * 15
    sums = [column[:n].reshape(-1, 15).sum(axis=1).astype(np.float64) for column in (top, bottom)]
    result: Float64 = np.divide(sums[0], sums[1], out=np.full(len(sums[0]), np.nan), where=sums[1] > 0.0)
    return result


def _rest(share: float | None) -> float | None:
    return None if share is None else 1.0 - share


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _money_text(micros: float | None) -> str:
    return "no limit" if micros is None else f"{micros / 1e6:,.2f}"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _minutes(value: int | None) -> str:
    return "not before the next" if value is None else f"{value} minutes"
