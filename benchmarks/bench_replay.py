"""Campaign 2997 of iPinYou replayed by every strategy: 156 episodes of 1,000 auctions, second price, five budgets.

Run as ``python benchmarks/bench_replay.py``; the data is looked for in HEADRACE_DATA or ../shared/data. Intervals are
95 % bootstrap intervals over episodes. The row `own distribution` is the optimum of an independent market, given the
distribution of value and price of the very log it is played on, which nobody could have known; `dynamic` learns that
distribution as it goes. Both are references, no contenders.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from headrace_training.replay.info import Info, read_info
from headrace_training.replay.log import AuctionLog, read_log
from headrace_training.replay.report import Options, replay
from headrace_training.replay.strategies import DEFAULT, STRATEGIES, make_strategy
from headrace_training.replay.strategies.base import Start, Strategy
from headrace_training.replay.strategies.dynamic import Dynamic

CAMPAIGN = "2997"
FRACTIONS = tuple(Fraction(1, part) for part in (32, 16, 8, 4, 2))
LEAST = (0.958, 0.982, 0.990, 0.993, 0.990)
STRETCH = (0.966, 0.985, 0.992, 0.995, 0.992)
LOST_BY_CENSORING = 0.012
EPISODE = 1000

REFERENCE = "dynamic"

Make = Callable[[str, Start], Strategy]


def main() -> None:
    """Print the table; exit code 1 when the default strategy misses a bound or is not above every other."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / f"ipinyou-rlb-{CAMPAIGN}"
    if not folder.is_dir():
        raise SystemExit(f"skipped: no {folder.name} in {root}; set HEADRACE_DATA")
    log = read_log(folder / "test.theta.txt.gz")
    info = read_info(folder / "campaign_info" / f"{CAMPAIGN}.json.gz")
    titles = ["strategy", "feedback", *(f"1/{fraction.denominator}" for fraction in FRACTIONS), "CPU s"]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    shares = {
        (name, feedback): row(name, feedback, log, info) for feedback in ("full", "censored") for name in STRATEGIES
    }
    row("own distribution", "full", log, info, lambda name, start: Dynamic(start, log))
    sys.exit(0 if judged(shares) else 1)


def row(name: str, feedback: str, log: AuctionLog, info: Info, make: Make = make_strategy) -> list[float]:
    """Print a strategy's row; its shares of the oracle's value."""
    options = Options(fractions=FRACTIONS, episode=EPISODE, feedback=feedback, strategy=name)
    began = time.process_time()
    found = replay(log, info, None, options, make)["results"]
    seconds = time.process_time() - began
    assert all(0 <= result["value_won"] <= result["value_oracle"] for result in found)
    assert all(result["cost"] <= result["budget"] for result in found)
    print(f"| {name} | {feedback} | " + " | ".join(map(cell, found)) + f" | {seconds:.0f} |", flush=True)
    return [result["share_of_oracle"] for result in found]


def cell(result: dict[str, Any]) -> str:
    low, high = result["intervals"]["share_of_oracle"]
    fewest, most = result["intervals"]["clicks"]
    return (
        f"{result['share_of_oracle']:.4f} ({low:.4f} to {high:.4f}), "
        f"{result['clicks']} clicks ({fewest:.0f} to {most:.0f})"
    )


def judged(shares: dict[tuple[str, str], list[float]]) -> bool:
    """Print what holds and what does not; whether all that must hold does."""
    ours, censored = shares[DEFAULT, "full"], shares[DEFAULT, "censored"]
    contenders = [name for name in STRATEGIES if name not in (DEFAULT, REFERENCE)]
    others = [max(shares[name, "full"][i] for name in contenders) for i in range(len(FRACTIONS))]
    claims = {
        f"{DEFAULT} reaches {LEAST}": [share >= least for share, least in zip(ours, LEAST, strict=True)],
        f"{DEFAULT} is above every other strategy but the reference": [
            share > other for share, other in zip(ours, others, strict=True)
        ],
        f"wins alone lose at most {LOST_BY_CENSORING}": [
            share >= full - LOST_BY_CENSORING for share, full in zip(censored, ours, strict=True)
        ],
    }
    for claim, held in claims.items():
        print(f"{claim}: {'yes' if all(held) else f'NO {held}'}")
    above = [share > other for share, other in zip(ours, shares[REFERENCE, "full"], strict=True)]
    print(f"above the reference {REFERENCE} at: {sum(above)} of {len(above)} {above}")
    reached = [share >= most for share, most in zip(ours, STRETCH, strict=True)]
    print(f"of {STRETCH} it reaches: {sum(reached)} of {len(reached)} {reached}")
    return all(all(held) for held in claims.values())


if __name__ == "__main__":
    main()
