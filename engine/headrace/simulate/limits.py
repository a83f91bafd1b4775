"""A campaign's limits as they were edited, and whether spend kept to them: micros, infinite without a limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from headrace.simulate.loading import Plan
from headrace.simulate.matching import local_days
from headrace.types import Float64, Int64


class Step(NamedTuple):
    """Limits in force from a moment on, until the next step."""

    start_ms: int
    daily: float
    whole: float


@dataclass(frozen=True, slots=True)
class Limits:
    """Steps in order of time, the first from the beginning on; and what was spent when.

    time_ms, paid : (w,) of the wins.   days : the local days of the run.   day : (w,) the wins' own.
    """

    steps: list[Step]
    zone: str
    days: list[int]
    time_ms: Int64
    day: Int64
    paid: Float64

    @classmethod
    def of(cls, plan: Plan, row: int, time_ms: Int64, paid: Float64) -> Limits:
        """The limits of a campaign by its row."""
        scenario, campaign = plan.scenario, plan.campaigns[row]
        given = campaign.limits
        steps = [
            Step(
                0,
                float(given.daily_micros) if given.HasField("daily_micros") else np.inf,
                float(given.lifetime_micros) if given.HasField("lifetime_micros") else np.inf,
            )
        ]
        for edit in sorted(scenario.edits, key=lambda edit: edit.at_hour):
            if edit.campaign_id == campaign.campaign_id:
                daily = steps[-1].daily if edit.daily_micros is None else float(edit.daily_micros)
                whole = steps[-1].whole if edit.lifetime_micros is None else float(edit.lifetime_micros)
                steps.append(Step(scenario.moment(edit.at_hour), daily, whole))
        zone = campaign.time_zone
        ends = local_days(zone, np.array([scenario.start_ms, scenario.end_ms - 1], np.int64)).tolist()
        return cls(steps, zone, list(range(ends[0], ends[1] + 1)), time_ms, local_days(zone, time_ms), paid)

    @property
    def budget(self) -> float:
        """What could be spent over the run."""
        return min(sum(self.of_day(day) for day in self.days), self.whole)

    @property
    def whole(self) -> float:
        """The lifetime limit in force at the end; after a cut below what had been spent by then, that."""
        last = self.steps[-1]
        return max(last.whole, float(self.paid[self.time_ms < last.start_ms].sum()))

    def of_day(self, day: int) -> float:
        """The daily limit in force at the end of a local day; after a cut below what had been spent by then, that."""
        starts = local_days(self.zone, np.array([step.start_ms for step in self.steps], np.int64)).tolist()
        last = [step for step, start in zip(self.steps, starts, strict=True) if start <= day][-1]
        return max(last.daily, float(self.paid[(self.day == day) & (self.time_ms < last.start_ms)].sum()))

    def overspend(self) -> float:
        """The most by which a day's or the whole spend was above its limit in force.

        After a cut below what had been spent by then the limit is that spend: money that is gone cannot be taken back.
        """
        worst = 0.0
        for step, end in zip(self.steps, [step.start_ms for step in self.steps[1:]] + [2**62], strict=True):
            before, until = self.time_ms < step.start_ms, self.time_ms < end
            spans = [(step.whole, np.ones(len(self.paid), bool))]
            spans += [(step.daily, self.day == day) for day in np.unique(self.day[until & ~before]).tolist()]
            for limit, inside in spans:
                allowed = max(limit, float(self.paid[inside & before].sum()))
                worst = max(worst, float(self.paid[inside & until].sum()) - allowed)
        return worst
