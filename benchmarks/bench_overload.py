"""What is left of a server that is asked for up to five times what it can do.

    python benchmarks/bench_overload.py [--door native|grpcio] [--seconds 4] [--rounds 3] [--items 100000] [--json FILE]

`headrace serve` with one worker on one core, the load on the other: an open loop of Poisson arrivals over 16
connections, whether or not earlier calls are answered, each with a deadline of 100 ms (BidBatch: 250 ms). Latencies
count from the arrival at the client; a call that finds no free stream waits there and is given up at its deadline.
Capacity is what 16 calls in flight (BidBatch: 2), one behind the other, get answered in full. "full" are answers in
time that did the whole work: an exact slate, a bid; "cheap" are those in time that did not: popular items, no-bid for
lack of time. Goodput is both for Recommend, since a slate of popular items can be shown, and "full" for bids. Numbers
are medians over rounds; the peak is the best load's. Refusing a call costs the transport too: beside the table stands
the greatest load, as a multiple of the capacity, at which the core could still refuse every call.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from artifact import publish
from load import load
from served import (
    BID,
    BID_BATCH,
    EXACT,
    RECOMMEND,
    TOKEN,
    batch_bodies,
    bid_bodies,
    fund,
    people,
    recommend_bodies,
    serving,
)

LOADS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
CONNECTIONS = 16


class Case(NamedTuple):
    """What is asked; ``mark`` stands in answers that did the whole work, ``cheap_helps`` says whether others count."""

    name: str
    path: str
    bodies: list[bytes]
    mark: bytes
    deadline_ms: float
    in_flight: int
    cheap_helps: bool


class Row(NamedTuple):
    """One load of one case, a second; shares of what was offered; milliseconds."""

    load: float
    offered: float
    full: float
    cheap: float
    refused: float
    late: float
    p50_ms: float
    p99_ms: float


def cases(names: list[str]) -> list[Case]:
    """The three of them, asked by the same people."""
    return [
        Case("Recommend", RECOMMEND, recommend_bodies(names), EXACT, 100, 16, True),
        Case("Bid", BID, bid_bodies(names), TOKEN, 100, 16, False),
        Case("BidBatch of 256", BID_BATCH, batch_bodies(names), TOKEN, 250, 2, False),
    ]


def capacity(address: str, case: Case, seconds: float) -> float:
    """Calls a second that are answered in full when each waits for one before it."""
    options: dict[str, Any] = {"connections": 2, "in_flight": case.in_flight, "seconds": seconds}
    result = load(address, case.path, case.bodies, mark=case.mark.hex(), **options)
    return float(result["marked"] / seconds)


def measure(address: str, case: Case, factor: float, rate: float, seconds: float) -> Row:
    """One open loop."""
    options: dict[str, Any] = {"rate": rate, "seconds": seconds, "timeout_ms": case.deadline_ms, "warm": 1.0}
    result = load(address, case.path, case.bodies, connections=CONNECTIONS, mark=case.mark.hex(), **options)
    offered = max(result["offered"], 1)
    late = result["late"] + result["given_up"] + result["statuses"].get("4", 0) + result["broken"]
    refused = offered - result["answered"] - late
    return Row(
        factor,
        offered / seconds,
        result["marked"] / seconds,
        (result["answered"] - result["marked"]) / seconds,
        max(refused, 0) / offered,
        late / offered,
        result["p50_us"] / 1000,
        result["p99_us"] / 1000,
    )


def run(address: str, case: Case, seconds: float, rounds: int) -> dict[str, Any]:
    """All loads of a case, in turns."""
    capacity(address, case, 2.0)  # warms up
    peak_rate = statistics.median(capacity(address, case, seconds) for _ in range(rounds))
    turns = [[measure(address, case, factor, factor * peak_rate, seconds) for factor in LOADS] for _ in range(rounds)]
    rows = [Row(*map(statistics.median, zip(*same, strict=True))) for same in zip(*turns, strict=True)]
    return {"capacity": peak_rate, "rows": [row._asdict() | {"goodput": goodput(case, row)} for row in rows]}


def goodput(case: Case, row: Row) -> float:
    """Answers in time that are of use, a second."""
    return row.full + row.cheap if case.cheap_helps else row.full


def show(case: Case, found: dict[str, Any]) -> None:
    """One table."""
    peak = max(row["goodput"] for row in found["rows"])
    print(f"\n{case.name}: {found['capacity']:.0f} calls/s in full, deadline {case.deadline_ms:.0f} ms")
    print(f"{'load':>6}{'offered':>10}{'full':>9}{'cheap':>9}{'goodput':>9}{'of peak':>9}"
          f"{'refused':>9}{'late':>7}{'p50 ms':>8}{'p99 ms':>8}")  # fmt: skip
    for row in found["rows"]:
        print(f"{row['load']:5.1f}x{row['offered']:10.0f}{row['full']:9.0f}{row['cheap']:9.0f}{row['goodput']:9.0f}"
              f"{row['goodput'] / peak:9.0%}{row['refused']:9.0%}{row['late']:7.1%}"
              f"{row['p50_ms']:8.1f}{row['p99_ms']:8.1f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", default="auto")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory(prefix="bench-overload-") as name:
        folder = Path(name)
        publish(folder / "artifacts", 50_000, chosen.items)
        with serving(folder, "--door", chosen.door, HEADRACE_SERVER_WORKERS="1") as server:
            fund(server.address)
            for case in cases(people(20_000, 20_000)):
                found = run(server.address, case, chosen.seconds, chosen.rounds)
                found["refusals"] = refusals(server.address, case, chosen.seconds)
                results[case.name] = found
                show(case, found)
                print(f"refusing alone: at most {found['refusals'] / found['capacity']:.1f} times the capacity")
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


def refusals(address: str, case: Case, seconds: float) -> float:
    """Calls a second that the core can refuse: for a tenant that there is not."""
    options: dict[str, Any] = {"connections": CONNECTIONS, "in_flight": 256, "seconds": seconds, "warm": 0}
    result = load(address, case.path, case.bodies, headers=["headrace-tenant:nobody"], **options)
    return float(sum(result["statuses"].values()) / seconds)


if __name__ == "__main__":
    main()
