"""What a campaign could have had, were every price known and were it alone; money in micros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.simulate.limits import Limits
from headrace.simulate.matching import local_days
from headrace.simulate.truth import optimum
from headrace.types import Float64, Int64
from headrace.v1 import campaigns_pb2 as pb

MAX_MULTIPLIER = 16.0
"""With a goal bids may pass the value by so much."""


@dataclass(frozen=True, slots=True)
class Hindsight:
    """value : an upper bound of what could be won under the budget and the goals.   surplus : of value less cost, under
    the budget alone.   affordable : what winning all that is worth its price would cost.
    """

    value: float
    surplus: float
    affordable: float


def hindsight(
    campaign: pb.Campaign, limits: Limits, time_ms: Int64, values: Float64, chance: Float64, cost: Float64
) -> Hindsight:
    """The best of n auctions and a campaign's m line items.

    values : (n, m) float64, 0 where the line item does not fit.   chance : (n, m) of a purchase.   cost : (n,).

    With a daily limit each local day is a problem of its own, goals included; with a lifetime limit too, the whole is
    one more, and the lower bound counts. Limits of single line items are not looked at.
    """
    rows = np.arange(len(cost))
    caps = np.array([line.max_bid_cpm_micros / 1000.0 or np.inf for line in campaign.line_items])
    most = MAX_MULTIPLIER if _aims(campaign) else 1.0
    worthy = np.where(cost[:, None] <= np.minimum(most * values, caps), values, 0.0)
    choice = worthy.argmax(axis=1)
    best = worthy[rows, choice]
    good = np.flatnonzero(best > 0.0)
    credit = _credit(campaign, chance[rows, choice], values[rows, choice])
    day = local_days(limits.zone, time_ms[good])
    problems = [[(good, limits.whole)]]
    if np.isfinite(limits.steps[-1].daily):
        problems.append([(good[day == each], limits.of_day(each)) for each in limits.days])
    value = surplus = np.inf
    for parts in problems:
        found = [
            optimum(best[part], cost[part], None if credit is None else credit[part], limit) for part, limit in parts
        ]
        value = min(value, sum(each.bound for each in found))
        gain = [optimum(np.maximum(best[part] - cost[part], 0.0), cost[part], None, limit) for part, limit in parts]
        surplus = min(surplus, sum(each.bound for each in gain))
    return Hindsight(value, surplus, float(cost[good].sum()))


def worth_of(line: pb.LineItem, campaign: pb.Campaign) -> int:
    """What a purchase is worth, micros: what the line item says, else the cost that is aimed at."""
    return line.action_worth_micros or line.goals.target_cpa_micros or campaign.goals.target_cpa_micros


def goals_of(campaign: pb.Campaign) -> list[pb.Goals]:
    """Goals of all its money: its own, and those of its only line item."""
    lines = campaign.line_items
    return [campaign.goals, lines[0].goals] if len(lines) == 1 else [campaign.goals]


def _aims(campaign: pb.Campaign) -> bool:
    every = [campaign.goals, *(line.goals for line in campaign.line_items)]
    return any(goals.target_cpa_micros or goals.target_roas for goals in every)


def _credit(campaign: pb.Campaign, chance: Float64, value: Float64) -> Float64 | None:
    """What each auction allows to spend under the goals, (n,); None without any."""
    found = [goals.target_cpa_micros * chance for goals in goals_of(campaign) if goals.target_cpa_micros]
    found += [value / goals.target_roas for goals in goals_of(campaign) if goals.target_roas]
    return np.minimum.reduce(found) if found else None
