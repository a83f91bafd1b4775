"""What a scenario throws at the pacer, and how long it takes to be back on its plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from headrace.simulate.outcome import Result
from headrace.simulate.scenario import Scenario

BOUND = 0.02
"""Being on plan: spend is within this share of the budget of it."""
HOLDS_MINUTES = 30
"""For so long it must stay there to count as recovered."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One of them, as one campaign met it.

    at_minute : when the pacer is first free to react: at the change, or when an outage ends.
    deviation : the largest distance from the plan until the next one, as a share of the budget; None without a plan.
    recovery_minutes : from then until spend is within `BOUND` of the plan and stays there for `HOLDS_MINUTES`, or until
        the next disturbance; 0 when it never leaves, None when it does not come back before that.
    """

    what: str
    at_minute: int
    deviation: float | None
    recovery_minutes: int | None


def disturbances(scenario: Scenario, result: Result) -> list[Disturbance]:
    """All that concern a campaign, in order of time; one that ends after the run does not count."""
    gap = np.abs(result.curve.gap)
    marks = sorted(_marks(scenario, result.campaign.campaign_id))
    found = []
    for row, (at, what) in enumerate(marks):
        if at >= len(gap):
            continue
        until = min(marks[row + 1][0] if row + 1 < len(marks) else len(gap), len(gap))
        part = gap[at : max(until, at + 1)]
        deviation = float(np.nanmax(part)) if np.isfinite(part).any() else None
        found.append(Disturbance(what, at, deviation, _recovery(part) if deviation is not None else None))
    return found


def _recovery(gap: np.ndarray) -> int | None:
    """Minutes until the gap stays within the bound for long enough, or to the end."""
    beyond = np.flatnonzero(~(gap <= BOUND))
    start = 0
    for minute in [*beyond.tolist(), len(gap)]:
        if minute - start >= min(HOLDS_MINUTES, len(gap) - start) and start < len(gap):
            return start
        start = minute + 1
    return None


def _marks(scenario: Scenario, campaign_id: str) -> Iterator[tuple[int, str]]:
    for swing in scenario.traffic.swings:
        yield _minute(swing.at_hour), f"traffic times {swing.factor:g}"
        yield _minute(swing.at_hour + swing.hours), "traffic as usual"
    for shock in scenario.shocks:
        where = f" on {shock.exchange}" if shock.exchange else ""
        yield _minute(shock.at_hour), f"prices times {shock.factor:g}{where}"
        yield _minute(shock.at_hour + shock.hours), f"prices as usual{where}"
    for outage in scenario.outages:
        where = f" of {outage.exchange}" if outage.exchange else ""
        yield (
            _minute(outage.at_hour + outage.hours),
            f"end of {outage.hours * 60:g} minutes without {outage.kind}{where}",
        )
    for edit in scenario.edits:
        if edit.campaign_id == campaign_id:
            yield _minute(edit.at_hour), "an edit"


def _minute(hour: float) -> int:
    return round(hour * 60)
