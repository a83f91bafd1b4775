"""What a run came to: for each campaign its spend against the plan, its value against the optimum, and its money."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.simulate.driver import Run
from headrace.simulate.market import MINUTE_MS, PURCHASES, stream
from headrace.simulate.matching import fitting, local_days
from headrace.simulate.truth import Optimum, optimum
from headrace.types import Bool, Float64, Int64
from headrace.v1 import campaigns_pb2 as pb

MAX_MULTIPLIER = 16.0
"""With a goal bids may pass the value by so much."""
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

    budget : what could be spent over the run by its limits in force at the end of each day.   affordable : what winning
    all that is worth its price would have cost.   value : of impressions won, as predicted; ``best`` the optimum's.
    expected, expected_worth : purchases of what was won by the true probabilities, and their worth; ``purchases`` are
    drawn from these.
    surplus, best_surplus : value less cost.   overspend : the most that spend ever was above the limit in force.
    """

    campaign: pb.Campaign
    curve: Curve
    budget: float
    affordable: float
    spent: float
    overspend: float
    value: float
    best: Optimum
    surplus: float
    best_surplus: float
    expected: float
    expected_worth: float
    purchases: int

    @property
    def goal_overrun(self) -> float | None:
        """How much more was spent than the purchases expected allow under the tightest goal, as a share of that; None
        without a goal or a purchase."""
        allowed = []
        for goals in _goals(self.campaign):
            if goals.target_cpa_micros:
                allowed.append(self.expected * goals.target_cpa_micros)
            if goals.target_roas:
                allowed.append(self.expected_worth / goals.target_roas)
        return self.spent / min(allowed) - 1.0 if allowed and min(allowed) > 0.0 else None

    @property
    def feasible(self) -> bool:
        """Whether there was enough to buy for the whole budget."""
        return self.affordable >= self.budget

    @property
    def delivered(self) -> float:
        """Share of the budget that was spent, of what could be spent where that is less."""
        most = min(self.budget, self.affordable)
        return self.spent / most if most > 0.0 else 1.0


def outcomes(run: Run) -> list[Result]:
    """One result a campaign, in the order of their ids."""
    fits = fitting(run.plan, run.auctions)
    rng = stream(run.plan.scenario, PURCHASES)
    luck = rng.random(len(run.auctions.time_ms))
    return [_result(run, row, fits, luck) for row in range(len(run.plan.campaigns))]


def limit_steps(run: Run, row: int) -> list[tuple[int, float, float]]:
    """(moment, daily, lifetime) of a campaign's limits in force from that moment on, micros; infinite without one."""
    campaign = run.plan.campaigns[row]
    daily = float(campaign.limits.daily_micros) if campaign.limits.HasField("daily_micros") else np.inf
    whole = float(campaign.limits.lifetime_micros) if campaign.limits.HasField("lifetime_micros") else np.inf
    steps = [(0, daily, whole)]
    for edit in sorted(run.plan.scenario.edits, key=lambda edit: edit.at_hour):
        if edit.campaign_id == campaign.campaign_id:
            _, daily, whole = steps[-1]
            daily = daily if edit.daily_micros is None else float(edit.daily_micros)
            whole = whole if edit.lifetime_micros is None else float(edit.lifetime_micros)
            steps.append((run.plan.scenario.moment(edit.at_hour), daily, whole))
    return steps


def _result(run: Run, row: int, fits: Bool, luck: Float64) -> Result:
    plan, auctions, record = run.plan, run.auctions, run.record
    columns = [column for column, (i, _) in enumerate(plan.lines) if i == row]
    campaign = plan.campaigns[row]
    lines = [campaign.line_items[plan.lines[column][1]] for column in columns]
    mine = np.isin(record.line, columns) & record.won
    worth = np.array([worth_of(line, campaign) for line in lines], np.float64)
    really = np.array([plan.scenario.values[plan.keys[column]].really for column in columns])
    chance = auctions.probability[:, columns].astype(np.float64)
    values = np.where(fits[:, columns], chance * worth, 0.0)
    cost = auctions.price_cpm / NANOS
    line = record.line[mine] - columns[0]
    won_chance = chance[mine, line] * really[line]
    bought = luck[mine] < won_chance
    paid = record.paid_cpm[mine] / NANOS
    fitted: Bool = np.any(fits[:, columns], axis=1)
    curve = _curve(run, row, mine, fitted)
    budget, best, best_surplus, affordable = _hindsight(run, row, values, chance, cost)
    value = float((chance[mine, line] * worth[line]).sum())
    return Result(
        campaign=campaign,
        curve=curve,
        budget=budget,
        affordable=affordable,
        spent=float(paid.sum()),
        overspend=_overspend(run, row, mine),
        value=value,
        best=best,
        surplus=value - float(paid.sum()),
        best_surplus=best_surplus,
        expected=float(won_chance.sum()),
        expected_worth=float((won_chance * worth[line]).sum()),
        purchases=int(bought.sum()),
    )


def _curve(run: Run, row: int, mine: Bool, fits: Bool) -> Curve:
    record, start = run.record, run.plan.scenario.start_ms
    n_minutes = len(record.planned)
    minute = (run.auctions.time_ms - start) // MINUTE_MS
    columns = [column for column, (i, _) in enumerate(run.plan.lines) if i == row]
    bids = np.isin(record.line, columns)
    spent: Float64 = np.cumsum(np.bincount(minute[mine], record.paid_cpm[mine] / NANOS, n_minutes), dtype=np.float64)
    ends = start + MINUTE_MS * np.arange(1, n_minutes + 1)
    steps = limit_steps(run, row)
    place = np.searchsorted([step[0] for step in steps], ends, side="left") - 1
    return Curve(
        spent=spent,
        planned=record.planned[:, row],
        multiplier=record.multiplier[:, row],
        budget=np.array([min(daily, whole) for _, daily, whole in steps])[place],
        wins=np.bincount(minute[mine], minlength=n_minutes),
        bids=np.bincount(minute[bids], minlength=n_minutes),
        fits=np.bincount(minute[fits], minlength=n_minutes),
    )


def _hindsight(
    run: Run, row: int, values: Float64, chance: Float64, cost: Float64
) -> tuple[float, Optimum, float, float]:
    """Budget, the optimum under it, the surplus of the best choice of surplus, and the cost of all that is worth it.

    With a daily limit each local day is a problem of its own. Limits of single line items are not looked at, so with
    such limits the optimum is an upper bound.
    """
    campaign = run.plan.campaigns[row]
    caps = np.array([line.max_bid_cpm_micros or np.inf for line in campaign.line_items]) / NANOS
    most = MAX_MULTIPLIER if has_goal(campaign) else 1.0
    value = np.where(cost[:, None] <= np.minimum(most * values, caps), values, 0.0)
    choice = value.argmax(axis=1)
    best_value = value[np.arange(len(value)), choice]
    good = np.flatnonzero(best_value > 0.0)
    credit = _credit(campaign, chance, values, choice)
    day = local_days(campaign.time_zone, run.auctions.time_ms[good])
    steps = limit_steps(run, row)
    daily, whole = steps[-1][1:]
    if np.isinf(daily):
        day = np.zeros_like(day)
    budget, totals = 0.0, np.zeros(5)
    for each in np.unique(day).tolist():
        part = good[day == each]
        limit = _limit_of_day(steps, campaign, each) if np.isfinite(daily) else whole
        budget += limit
        found = optimum(best_value[part], cost[part], None if credit is None else credit[part], limit)
        surplus = optimum(best_value[part] - cost[part] + 1e-9, cost[part], None, limit)
        totals += (found.bound, found.value, found.cost, found.credit, surplus.value)
    return min(budget, whole), Optimum(*totals[:4].tolist()), float(totals[4]), float(cost[good].sum())


def has_goal(campaign: pb.Campaign) -> bool:
    """Whether money must achieve something, of the campaign or of its only line item."""
    return any(goals.target_cpa_micros or goals.target_roas for goals in _goals(campaign))


def worth_of(line: pb.LineItem, campaign: pb.Campaign) -> int:
    """What a purchase is worth, micros: what the line item says, else the cost that is aimed at."""
    return line.action_worth_micros or line.goals.target_cpa_micros or campaign.goals.target_cpa_micros


def _goals(campaign: pb.Campaign) -> list[pb.Goals]:
    lines = campaign.line_items
    return [campaign.goals, lines[0].goals] if len(lines) == 1 else [campaign.goals]


def _credit(campaign: pb.Campaign, chance: Float64, values: Float64, choice: Int64) -> Float64 | None:
    """What each auction allows to spend under the goals, micros; None without any."""
    rows = np.arange(len(choice))
    credit = np.full(len(choice), np.inf)
    for goals in _goals(campaign):
        if goals.target_cpa_micros:
            credit = np.minimum(credit, chance[rows, choice] * goals.target_cpa_micros)
        if goals.target_roas:
            credit = np.minimum(credit, values[rows, choice] / goals.target_roas)
    return credit if has_goal(campaign) else None


def _limit_of_day(steps: list[tuple[int, float, float]], campaign: pb.Campaign, day: int) -> float:
    """The daily limit in force at the end of a local day."""
    known = [daily for moment, daily, _ in steps if moment == 0 or _day(campaign, moment) <= day]
    return known[-1]


def _day(campaign: pb.Campaign, moment: int) -> int:
    return int(local_days(campaign.time_zone, np.array([moment], np.int64))[0])


def _overspend(run: Run, row: int, mine: Bool) -> float:
    """The most by which a day's or the whole spend was above its limit in force, micros.

    After a cut below what had been spent by then the limit is that spend: money that is gone cannot be taken back.
    """
    campaign = run.plan.campaigns[row]
    times, paid = run.auctions.time_ms[mine], run.record.paid_cpm[mine] / NANOS
    days = local_days(campaign.time_zone, times)
    worst = 0.0
    steps = limit_steps(run, row)
    for (start, daily, whole), end in zip(steps, [step[0] for step in steps[1:]] + [2**62], strict=True):
        if np.isfinite(whole):
            allowed = max(whole, float(paid[times < start].sum()))
            worst = max(worst, float(paid[times < end].sum()) - allowed)
        for day in np.unique(days[(times >= start) & (times < end)]).tolist() if np.isfinite(daily) else ():
            today = days == day
            allowed = max(daily, float(paid[today & (times < start)].sum()))
            worst = max(worst, float(paid[today & (times < end)].sum()) - allowed)
    return max(worst, 0.0)
