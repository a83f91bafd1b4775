"""What a run came to: for each campaign its spend against the plan, its value against the optimum, and its money."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.simulate.driver import Run
from headrace.simulate.hindsight import Hindsight, goals_of, hindsight, worth_of
from headrace.simulate.limits import Limits
from headrace.simulate.market import MINUTE_MS
from headrace.simulate.matching import fitting
from headrace.types import Bool, Float64, Int64
from headrace.v1 import campaigns_pb2 as pb

NANOS = 1000.0
"""A price of one CPM micro is a thousandth of a micro for one impression."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One campaign by minute, (t,) each; money in micros, all since the start.

    spent : what its wins cost.   planned : see `Pacer.planned_micros`, NaN without a plan.   budget : what the limit in
    force allows on that day, or in all; infinite without a limit.   wins, bids, fits : counts within the minute.
    """

    spent: Float64
    planned: Float64
    multiplier: Float64
    budget: Float64
    wins: Int64
    bids: Int64
    fits: Int64

    @property
    def gap(self) -> Float64:
        """Spend less plan as a share of the budget in force; NaN where there is no plan."""
        with np.errstate(invalid="ignore"):
            return (self.spent - self.planned) / np.where(self.budget > 0.0, self.budget, np.nan)


@dataclass(frozen=True, slots=True)
class Result:
    """One campaign's outcome; money in micros.

    budget : what could be spent over the run by its limits in force at the end of each day.   value : of impressions
    won, as predicted.   best : what could have been had.
    expected, expected_worth : purchases of what was won by the true probabilities, and their worth; ``purchases`` are
    drawn from these.
    surplus : value less cost.   overspend : the most that spend ever was above the limit in force.
    """

    campaign: pb.Campaign
    curve: Curve
    budget: float
    spent: float
    overspend: float
    value: float
    best: Hindsight
    surplus: float
    expected: float
    expected_worth: float
    purchases: int

    @property
    def goal_overrun(self) -> float | None:
        """How much more was spent than the purchases expected allow under the tightest goal, as a share of that; None
        without a goal or a purchase."""
        allowed = []
        for goals in goals_of(self.campaign):
            if goals.target_cpa_micros:
                allowed.append(self.expected * goals.target_cpa_micros)
            if goals.target_roas:
                allowed.append(self.expected_worth / goals.target_roas)
        return self.spent / min(allowed) - 1.0 if allowed and min(allowed) > 0.0 else None

    @property
    def feasible(self) -> bool:
        """Whether there was enough to buy for the whole budget."""
        return self.best.affordable >= self.budget

    @property
    def delivered(self) -> float:
        """Share of the budget that was spent, of what could be spent where that is less."""
        most = min(self.budget, self.best.affordable)
        return self.spent / most if most > 0.0 else 1.0


def outcomes(run: Run) -> list[Result]:
    """One result a campaign, in the order of their ids."""
    fits = fitting(run.plan, run.auctions)
    return [_result(run, row, fits) for row in range(len(run.plan.campaigns))]


def _result(run: Run, row: int, fits: Bool) -> Result:
    plan, auctions, record = run.plan, run.auctions, run.record
    columns = [column for column, (i, _) in enumerate(plan.lines) if i == row]
    campaign = plan.campaigns[row]
    lines = [campaign.line_items[plan.lines[column][1]] for column in columns]
    mine = np.isin(record.line, columns) & record.won
    worth = np.array([worth_of(line, campaign) for line in lines], np.float64)
    really = np.array([plan.scenario.values[plan.keys[column]].really for column in columns])
    chance = auctions.probability[:, columns].astype(np.float64)
    values = np.where(fits[:, columns], chance * worth, 0.0)
    line = record.line[mine] - columns[0]
    won_chance = chance[mine, line] * really[line]
    bought = auctions.luck[mine] < won_chance
    paid = record.paid_cpm[mine] / NANOS
    limits = Limits.of(run.plan, row, auctions.time_ms[mine], paid)
    best = hindsight(campaign, limits, auctions.time_ms, values, chance, auctions.price_cpm / NANOS)
    fitted: Bool = np.any(fits[:, columns], axis=1)
    curve = _curve(run, row, mine, fitted, limits)
    value = float((chance[mine, line] * worth[line]).sum())
    return Result(
        campaign=campaign,
        curve=curve,
        budget=limits.budget,
        spent=float(paid.sum()),
        overspend=limits.overspend(),
        value=value,
        best=best,
        surplus=value - float(paid.sum()),
        expected=float(won_chance.sum()),
        expected_worth=float((won_chance * worth[line]).sum()),
        purchases=int(bought.sum()),
    )


def _curve(run: Run, row: int, mine: Bool, fits: Bool, limits: Limits) -> Curve:
    record, start = run.record, run.plan.scenario.start_ms
    n_minutes = len(record.planned)
    minute = (run.auctions.time_ms - start) // MINUTE_MS
    columns = [column for column, (i, _) in enumerate(run.plan.lines) if i == row]
    bids = np.isin(record.line, columns)
    spent: Float64 = np.cumsum(np.bincount(minute[mine], record.paid_cpm[mine] / NANOS, n_minutes), dtype=np.float64)
    ends = start + MINUTE_MS * np.arange(1, n_minutes + 1)
    place = np.searchsorted([step.start_ms for step in limits.steps], ends, side="left") - 1
    return Curve(
        spent=spent,
        planned=record.planned[:, row],
        multiplier=record.multiplier[:, row],
        budget=np.array([min(step.daily, step.whole) for step in limits.steps])[place],
        wins=np.bincount(minute[mine], minlength=n_minutes),
        bids=np.bincount(minute[bids], minlength=n_minutes),
        fits=np.bincount(minute[fits], minlength=n_minutes),
    )
