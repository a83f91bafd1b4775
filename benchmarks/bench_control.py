"""Control in the simulated market, with the real engine and the real ledger.

    python benchmarks/bench_control.py [--seeds 3] [--only swing,cut] [--requests 300000] [--processes 2]

Each row is a day of about 300,000 auctions, run for several seeds, as many at once as there are processes; the worst of
them is shown, as Markdown.
docs/simulate.md says what deviation from plan, recovery, delivered and share of the optimum mean. First the simulator
itself is checked: the same seed gives the same numbers, and the hindsight optimum is the linear programme's; after
every run the books must be the exchanges' accepted bills and nothing overspent. Exit code 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
from scipy.optimize import linprog

from headrace.bidding.settings import BiddingConfig
from headrace.simulate.driver import simulate
from headrace.simulate.loading import make_plan
from headrace.simulate.outcome import outcomes
from headrace.simulate.scenario import Scenario
from headrace.simulate.summary import summarize
from headrace.simulate.truth import optimum

Values = dict[str, Any]
CUT_HOUR = 18
QUIET_SHARE, QUIET_CPM = 0.459, 2_790_000
"""What the two baselines bid; each spends about the whole budget of the quiet day of seed 99 by its end."""
HOURS = "0.4 0.3 0.2 0.2 0.2 0.3 0.5 0.8 1.0 1.1 1.2 1.2 1.3 1.2 1.2 1.2 1.3 1.4 1.6 1.8 1.8 1.5 1.1 0.7"
BASE: Values = {
    "name": "control",
    "traffic": {"requests_per_day": 300_000, "hours": [float(hour) for hour in HOURS.split()]},
    "exchanges": [
        {
            "name": "open",
            "floor_cpm_micros": 500_000,
            "notices": {"delay_ms": 400, "billing_delay_ms": 2_000},
            "competitors": [
                {"kind": "truthful", "bidders": 4, "median_cpm_micros": 2_500_000, "sigma": 0.6, "present": 0.7}
            ],
        }
    ],
    "campaigns": [
        {
            "campaign_id": "spring",
            "advertiser_id": "acme",
            "limits": {"daily_micros": 150_000_000},
            "line_items": [{"line_item_id": "shoes", "action_worth_micros": 8_000_000}],
        }
    ],
    "values": {"spring/shoes": {"mean": 0.0006, "sigma": 0.8}},
}


BASELINES = Path(__file__).parent / "baselines.py"


@dataclass(frozen=True)
class Case:
    """One row: what the scenario adds, and what is asked of the campaign; None: shown only."""

    name: str
    change: Callable[[Values], None]
    deviation: float | None = 0.02
    recovery: int | None = 5
    delivered: float | None = 0.99
    optimum: float | None = None
    overrun: float | None = None
    seeds: list[dict[str, Any]] = field(default_factory=list)


def quiet(values: Values) -> None:
    pass


def swing(values: Values) -> None:
    values["traffic"]["swings"] = [{"at_hour": 7, "hours": 2, "factor": 5}]


def shift(values: Values) -> None:
    values["shocks"] = [{"at_hour": 11, "hours": 6, "factor": 2}]


def outage(values: Values) -> None:
    values["outages"] = [{"at_hour": 14, "hours": 0.5, "kind": "exchange"}]


def restart(values: Values) -> None:
    values["outages"] = [{"at_hour": 14, "hours": 0.05, "kind": "server"}]


def cut(values: Values) -> None:
    values["edits"] = [{"at_hour": CUT_HOUR, "campaign_id": "spring", "daily_micros": 120_000_000}]


def everything(values: Values) -> None:
    for change in (swing, shift, outage, cut):
        change(values)


def flat(values: Values) -> None:
    values["knowledge"] = {"traffic": "flat", "prices": "none"}


def first_price(values: Values) -> None:
    values["exchanges"][0]["auction"] = "first_price"
    values["exchanges"][0]["notices"]["minimum_to_win"] = True
    values["exchanges"][0]["competitors"][0] |= {"kind": "shading", "shade": 0.8}


def rough(values: Values) -> None:
    values["exchanges"][0]["notices"] |= {"wins_lost": 0.02, "bills_lost": 0.005, "twice": 0.05, "delay_ms": 5_000}
    values["exchanges"][0]["notices"]["billing_delay_ms"] = 300_000


def cpa(values: Values) -> None:
    values["campaigns"][0] |= {"goals": {"target_cpa_micros": 1_800_000}}


def roas(values: Values) -> None:
    values["campaigns"][0] |= {"goals": {"target_roas": 4.6}}


def cpa_and_budget(values: Values) -> None:
    cpa(values)
    values["campaigns"][0]["limits"]["daily_micros"] = 90_000_000


def unpaced(values: Values) -> None:
    everything(values)
    values["campaigns"][0]["pacing_plan"] = "PACING_PLAN_ASAP"


def linear(values: Values) -> None:
    """The share of the value that spends the budget on a quiet day."""
    unpaced(values)
    values["campaigns"][0]["line_items"][0] |= {"strategy": "linear", "strategy_parameters": [QUIET_SHARE]}


def constant(values: Values) -> None:
    """The bid that spends the budget on a quiet day."""
    unpaced(values)
    values["campaigns"][0]["line_items"][0] |= {"strategy": "constant", "strategy_parameters": [QUIET_CPM]}


CASES = [
    Case("quiet day", quiet, optimum=0.95),
    Case("traffic times 5 for 2 hours", swing),
    Case("prices times 2 for 6 hours", shift),
    Case("30 minutes without requests", outage),
    Case("budget cut by a fifth", cut),
    Case("all four of them", everything),
    Case("nothing known beforehand", flat, optimum=0.95),
    Case("our process starts anew at 14:00", restart),
    Case("first price, minimum to win told", first_price),
    Case("late, double and lost notices", rough),
    Case("CPA goal below what the budget buys", cpa, None, None, None, 0.95, 0.03),
    Case("ROAS goal", roas, None, None, None, 0.95, 0.03),
    Case("CPA goal and a tight budget", cpa_and_budget, None, None, None, 0.95, 0.03),
    Case("all four, baseline: no pacing", unpaced, None, None, None),
    Case("all four, baseline: share of value", linear, None, None, None),
    Case("all four, baseline: constant bid", constant, None, None, None),
]


def run(case: Case, seed: int, requests: int) -> dict[str, Any]:
    values = copy.deepcopy(BASE) | {"seed": seed}
    factor = requests / values["traffic"]["requests_per_day"]
    case.change(values)
    values["traffic"]["requests_per_day"] = requests
    for limits in [campaign["limits"] for campaign in values["campaigns"]] + values.get("edits", []):
        limits["daily_micros"] = round(limits["daily_micros"] * factor)
    strategies = tuple(f"{BASELINES}:{name}" for name in ("linear", "constant"))
    done = simulate(make_plan(msgspec.convert(values, Scenario)), bidding=BiddingConfig(strategies=strategies))
    summary = summarize(done, outcomes(done))
    assert summary["ledger"]["books_equal"], summary["ledger"]
    assert summary["ledger"]["unbilled_is_held"], summary["ledger"]
    assert summary["overspend_micros"] == 0, summary["overspend_micros"]
    return summary


def check() -> None:
    """The simulator is deterministic, and its optimum that of the linear programme."""
    first, again = (run(CASES[5], 7, 5_000) for _ in range(2))
    assert first == again
    rng = np.random.default_rng(0)
    for _ in range(5):
        value, cost = rng.lognormal(size=60), rng.lognormal(size=60)
        for budget, goal in ((8.0, 0.7), (30.0, 0.9), (1e9, 0.5)):
            limits = np.array([cost, cost - goal * value])
            exact = -linprog(-value, limits, [budget, 0.0], bounds=(0, 1)).fun
            assert abs(optimum(value, cost, goal * value, budget).bound - exact) <= 1e-5 * exact
    print(
        "checked: the same seed gives the same numbers; the optimum is the linear programme's; books equal, overspend 0"
    )


def worst(case: Case) -> tuple[str, bool]:
    """A row of the worst of all seeds, and whether it misses a bound."""
    found = [summary["campaigns"][0] for summary in case.seeds]
    deviation = max(each["largest_deviation"] or 0.0 for each in found)
    events = [event for each in found for event in each["disturbances"]]
    minutes = [event["recovery_minutes"] for event in events]
    recovery = "-" if not minutes else "never" if None in minutes else str(max(minutes))
    delivered = min(each["delivered"] for each in found)
    share = min(each["share_of_optimum"] for each in found)
    overruns = [each["goal_overrun"] for each in found if each.get("goal_overrun") is not None]
    overrun = max(overruns, default=None)
    missed = []
    if case.deviation is not None and deviation > case.deviation:
        missed.append(f"deviation > {case.deviation:.0%}")
    if case.recovery is not None and any(each is None or each > case.recovery for each in minutes):
        missed.append(f"recovery > {case.recovery} min")
    if case.delivered is not None and delivered < case.delivered:
        missed.append(f"delivered < {case.delivered:.0%}")
    if case.optimum is not None and share < case.optimum:
        missed.append(f"optimum < {case.optimum:.0%}")
    if case.overrun is not None and (overrun is None or overrun > case.overrun):
        missed.append(f"overrun > {case.overrun:.0%}")
    steered = case.delivered is not None
    cells = [
        case.name,
        f"{100 * delivered:.2f}",
        f"{100 * deviation:.2f}" if steered else "-",
        recovery if steered else "-",
        f"{100 * share:.2f}",
        "-" if overrun is None else f"{100 * overrun:.2f}",
        str(min(summary["wins"] for summary in case.seeds)),
        "MISSED: " + ", ".join(missed) if missed else "ok",
    ]
    return "| " + " | ".join(cells) + " |", bool(missed)


def chosen(only: str) -> Sequence[Case]:
    words = [word for word in only.split(",") if word]
    return [case for case in CASES if not words or {case.change.__name__, case.name} & set(words)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=300_000, help="a day, on average")
    parser.add_argument("--only", default="", help="names of the rows to run, such as swing,everything")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    check()
    print(f"CPython {platform.python_version()}, NumPy {np.__version__}; worst of {options.seeds} seeds; per cent\n")
    print("| day | delivered | off plan | back, min | optimum | overrun | wins | bounds |")
    print("|---|---:|---:|---:|---:|---:|---:|---|", flush=True)
    failed = False
    cases, seeds = chosen(options.only), range(1, options.seeds + 1)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        days = [[pool.submit(run, case, seed, options.requests) for seed in seeds] for case in cases]
        for case, done in zip(cases, days, strict=True):
            case.seeds.extend(each.result() for each in done)
            row, missed = worst(case)
            failed |= missed
            print(row, flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
