"""A long run under load with callers that misbehave: no leak, no stuck call, no crash.

    python benchmarks/soak.py [--minutes 10] [--share 0.7] [--door native|grpcio] [--json FILE]

The server stands on one core, the load on the other: Recommend and Bid, each at half of a share of the rate that it
reached alone in a short measurement before. Beside it callers misbehave all the time (misbehave.py). The server's
memory is read every second; the slope of the run's second half, with an interval from ten blocks, must not lie above a
megabyte a minute. At the end every ordinary call must have been answered OK, the books must balance, nobody may be in
flight, and a SIGTERM must end the process cleanly and at once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from load import Process, load
from misbehave import Misbehaviour
from served import BID, RECOMMEND, bid_bodies, fund, people, publish, recommend_bodies, serving

from headrace import Client
from headrace.v1 import campaigns_pb2

MOST_MB_A_MINUTE = 1.0
MB = 1 << 20


def capacity(address: str, path: str, bodies: list[bytes]) -> float:
    """Calls a second with 64 in flight."""
    return float(load(address, path, bodies, in_flight=64, seconds=4, warm=1)["per_s"])


def watch_memory(server: Process, over: threading.Event) -> list[float]:
    """Resident megabytes, once a second."""
    sizes = []
    while not over.wait(1):
        sizes.append(server.rss_bytes() / MB)
    return sizes


def slope(sizes: list[float], blocks: int = 10) -> tuple[float, float]:
    """Megabytes a minute over the second half, and twice its standard error, from the means of blocks."""
    half = sizes[len(sizes) // 2 :]
    length = max(len(half) // blocks, 1)
    means = [statistics.fmean(half[i : i + length]) for i in range(0, len(half) - length + 1, length)]
    minutes = [i * length / 60 for i in range(len(means))]
    fit = statistics.linear_regression(minutes, means)
    left = [y - fit.slope * x - fit.intercept for x, y in zip(minutes, means, strict=True)]
    spread = sum((x - statistics.fmean(minutes)) ** 2 for x in minutes)
    error = (sum(r * r for r in left) / max(len(means) - 2, 1) / spread) ** 0.5
    return fit.slope, 2 * error


def soak(server: Process, minutes: float, share: float) -> dict[str, Any]:
    """Load and misbehaviour for so many minutes; what was seen."""
    users = people(8000, 2000)
    bodies = {RECOMMEND: recommend_bodies(users), BID: bid_bodies(users)}
    rates = {path: capacity(server.address, path, some) * share / 2 for path, some in bodies.items()}
    over = threading.Event()
    wrong = Misbehaviour(server.address, RECOMMEND, bodies[RECOMMEND][0])
    with ThreadPoolExecutor(4) as pool:
        memory = pool.submit(watch_memory, server, over)
        chaos = pool.submit(wrong.run, 0.05)
        calls = {
            path: pool.submit(load, server.address, path, bodies[path], rate=rate, seconds=minutes * 60, warm=0)
            for path, rate in rates.items()
        }
        answered = {path: call.result() for path, call in calls.items()}
        over.set()
        wrong.stop()
        chaos.result()
    sizes = memory.result()
    rise, error = slope(sizes)
    return {
        "rates": rates,
        "answered": answered,
        "misbehaved": dict(wrong.done),
        "rss_mb": {"first": sizes[0], "middle": sizes[len(sizes) // 2], "last": sizes[-1], "most": max(sizes)},
        "rise_mb_a_minute": rise,
        "rise_within": error,
    }


def check(server: Process, seen: dict[str, Any]) -> list[str]:
    """What went wrong; empty when nothing did."""
    wrong = []
    if seen["rise_mb_a_minute"] - seen["rise_within"] > MOST_MB_A_MINUTE:
        wrong.append(f"memory rises by {seen['rise_mb_a_minute']:.2f} MB a minute")
    for path, result in seen["answered"].items():
        if set(result["statuses"]) != {"0"} or result["broken"]:
            wrong.append(f"{path}: {result['statuses']}, {result['broken']} broken")
    with Client(server.address) as client:
        for account in client.list_campaigns().advertisers:
            out = account.billed_micros + account.won_micros + account.reserved_micros + account.lease_unused_micros
            if out > account.budget_in_force_micros:
                wrong.append(f"the books of {account.account_id} do not balance")
    start = time.monotonic()
    code = server.stop()
    seen["stop_s"] = time.monotonic() - start
    if code or seen["stop_s"] > 5:
        wrong.append(f"exit code {code} after {seen['stop_s']:.1f} s: calls were stuck")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--share", type=float, default=0.7)
    parser.add_argument("--door", default="auto")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(folder / "artifacts", 10_000, 20_000)
        with serving(folder, "--door", chosen.door, HEADRACE_LEDGER_EXPIRE_AFTER_MS="2000") as server:
            fund(server.address, campaigns_pb2.LEDGER_MODE_EXPIRE)
            seen = soak(server, chosen.minutes, chosen.share)
            wrong = check(server, seen)
    print(json.dumps(seen, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(seen, indent=1))
    for line in wrong:
        print("WRONG:", line)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
