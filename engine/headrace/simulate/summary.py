"""A run in numbers, ready for JSON; the same numbers for the same scenario and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.simulate.disturbances import disturbances
from headrace.simulate.driver import Run
from headrace.simulate.money import reckon
from headrace.simulate.outcome import Result
from headrace.v1.bidder_pb2 import NoBidReason


def summarize(run: Run, results: Sequence[Result]) -> dict[str, Any]:
    """One object; docs/simulate.md says what each field means. Money is micros, shares are in [0, 1]."""
    scenario, record = run.plan.scenario, run.record
    reckoning = reckon(run)
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "warnings": [*record.warnings, *_warnings(results)],
        "start": scenario.start.isoformat(),
        "days": scenario.days,
        "auctions": len(record.line),
        "unanswered": int((record.reason < 0).sum()),
        "bids": int((record.line >= 0).sum()),
        "wins": int(record.won.sum()),
        "no_bids": _no_bids(run),
        "exploration": {
            "bids": int((record.explored & (record.line >= 0)).sum()),
            "wins": int((record.explored & record.won).sum()),
            "spent_micros": _number(float(record.paid_cpm[record.explored].sum()) / 1000.0),
            "given_up_micros": record.given_up,
        },
        "overspend_micros": round(max(result.overspend for result in results)),
        "campaigns": [_campaign(run, result) for result in results],
        "notices": {"lost": record.n_lost, **dict(sorted(record.outcomes.items()))},
        "ledger": {
            "books_equal": reckoning.equal,
            "wrong_accounts": reckoning.wrong,
            "unbilled_is_held": reckoning.covered,
            "billed_micros": reckoning.billed,
            "charged_micros": round(reckoning.charged, 3),
            "unbilled_micros": round(reckoning.unbilled, 3),
            "won_micros": reckoning.won,
            "reserved_micros": reckoning.reserved,
            "late_micros": reckoning.late,
            "disputed_micros": reckoning.disputed,
            "stranded_micros": reckoning.stranded,
        },
    }


def _warnings(results: Sequence[Result]) -> list[str]:
    hint = "compare its targeting, its hours and its flight with what the exchanges send, and when"
    idle = [result.campaign.campaign_id for result in results if not result.curve.fits.any()]
    return [f"campaign {name}: no request fits it; {hint}" for name in idle]


def _no_bids(run: Run) -> dict[str, int]:
    reasons, counts = np.unique(run.record.reason[run.record.reason > 0], return_counts=True)
    names = [NoBidReason.Name(int(reason)).removeprefix("NO_BID_REASON_").lower() for reason in reasons]
    return dict(zip(names, counts.tolist(), strict=True))


def _campaign(run: Run, result: Result) -> dict[str, Any]:
    curve = result.curve
    gap = np.abs(curve.gap)
    worst = int(np.nanargmax(gap)) if np.isfinite(gap).any() else None
    wins, bids = int(curve.wins.sum()), int(curve.bids.sum())
    return {
        "campaign_id": result.campaign.campaign_id,
        "budget_micros": _number(result.budget),
        "affordable_micros": _number(result.best.affordable),
        "feasible": result.feasible,
        "spent_micros": _number(result.spent),
        "delivered": _number(result.delivered),
        "overspend_micros": round(result.overspend),
        "largest_deviation": None if worst is None else _number(float(gap[worst])),
        "largest_deviation_at_hour": None if worst is None else round((worst + 1) / 60, 3),
        "fits": int(curve.fits.sum()),
        "bids": bids,
        "wins": wins,
        "win_rate": _ratio(wins, bids),
        "promised_impressions": sum(line.guarantee.impressions for line in result.campaign.line_items),
        "promised_daily_impressions": sum(line.guarantee.daily_impressions for line in result.campaign.line_items),
        "value_micros": _number(result.value),
        "best_value_micros": _number(result.best.value),
        "share_of_optimum": _ratio(result.value, result.best.value),
        "surplus_micros": _number(result.surplus),
        "share_of_surplus": _ratio(result.surplus, result.best.surplus),
        "expected_purchases": _number(result.expected),
        "purchases": result.purchases,
        "cpa_micros": _ratio(result.spent, result.expected),
        "roas": _ratio(result.expected_worth, result.spent),
        "goal_overrun": None if result.goal_overrun is None else _number(result.goal_overrun),
        "disturbances": [
            {
                "what": each.what,
                "at_hour": round(each.at_minute / 60, 3),
                "deviation": None if each.deviation is None else _number(each.deviation),
                "recovery_minutes": each.recovery_minutes,
            }
            for each in disturbances(run.plan.scenario, result)
        ],
    }


def _number(value: float) -> float | None:
    return round(value, 6) if np.isfinite(value) else None


def _ratio(top: float, bottom: float) -> float | None:
    return _number(top / bottom) if bottom > 0.0 else None
