"""A long run under load with callers that misbehave: no leak, no stuck call, no crash.

    python benchmarks/soak.py [--minutes 10] [--warm 1] [--share 0.7] [--door native|grpcio] [--json FILE] [--log FILE]

The server stands on one core, the load on the other. Exchanges bid and tell of wins, bills and losses over gRPC, on
streams and over HTTP (callers.py), the artifact is swapped once a minute, and callers misbehave all the time at both
ports (misbehave.py). Beside them Recommend and Bid are called, each at a share of the rate that both at once reached in
a short measurement beside the same callers. All of that runs for ``--warm`` minutes first, in which the caches that
have a bound are filled to it; after that memory is read every second.

Wrong is: memory that rises by more than a megabyte a minute, from means over ten blocks with an interval of twice the
standard error; an ordinary call that had an error, no answer, or was refused for want of room, beyond one in fifty;
calls, files or (native door) threads that are left at the end; books that do not balance; a server that is not SERVING
then, or does not end by itself, in time and with 0; a log that grows with what others send.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from artifact import publish
from bench_openrtb import bid_request
from callers import Caller, Exchange, HttpExchange, StreamExchange, Swapper
from load import Process, load
from misbehave import GrpcMisbehaviour, HttpMisbehaviour, Misbehaviour
from served import (
    BID,
    BID_STREAM,
    FEW,
    RECOMMEND,
    bid_bodies,
    bid_requests,
    fund,
    people,
    recommend_bodies,
    serving,
)

from headrace import Client
from headrace.v1 import bidder_pb2, campaigns_pb2, events_pb2

VERSIONS = ("first", "second")
MB = 1 << 20

MOST_MB_A_MINUTE = 1.0
MOST_REFUSED = 0.02
MOST_STOP_S = 5.0
MOST_LOG_LINES_A_MINUTE = 12.0
SPARE_FILES, SPARE_THREADS = 40, 12
"""Beyond those of an idle server: connections to its database, and the threads that wait for the disk."""

FILL_EVENTS, FILL_BIDS = 450_000, 70_000
"""Fill the page cache of the store's writer (128 MB) and the pacer's memory of bids that nobody spoke of (65,536)."""


class Watch:
    """The server from outside, once a second: resident megabytes, threads, files."""

    def __init__(self, server: Process) -> None:
        self._server = server
        self._over = threading.Event()
        self.sizes: list[float] = []
        self.threads: list[int] = []
        self.files: list[int] = []

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._over.wait(1):
            self.sizes.append(self._server.rss_bytes() / MB)
            self.threads.append(self._server.n_threads())
            self.files.append(self._server.n_files())

    def stop(self) -> None:
        """End :meth:`run`."""
        self._over.set()


def slope(sizes: list[float], blocks: int = 10) -> tuple[float, float]:
    """Megabytes a minute, and twice its standard error, from the means of blocks of sizes a second apart."""
    length = max(len(sizes) // blocks, 1)
    means = [statistics.fmean(sizes[i : i + length]) for i in range(0, len(sizes) - length + 1, length)]
    minutes = [i * length / 60 for i in range(len(means))]
    fit = statistics.linear_regression(minutes, means)
    left = [y - fit.slope * x - fit.intercept for x, y in zip(minutes, means, strict=True)]
    spread = sum((x - statistics.fmean(minutes)) ** 2 for x in minutes)
    error = (sum(r * r for r in left) / max(len(means) - 2, 1) / spread) ** 0.5
    return fit.slope, 2 * error


def fill(address: str, user_ids: list[str]) -> None:
    """Fill the caches that have a bound and would take longer than the run to reach it; swap the artifact twice."""
    kind, now = events_pb2.EVENT_TYPE_VIEW, time.time_ns() // 1_000_000
    requests = bid_requests(user_ids[:256])
    with Client(address) as client:
        for first in range(0, FILL_EVENTS, 1000):
            client.within(60).record_events(
                events_pb2.Event(
                    event_id=f"{n:0100d}", anonymous_id="crowd", type=kind, item_id=f"i{n % 100}", time_ms=now
                )
                for n in range(first, first + 1000)
            )
        for _ in range(0, FILL_BIDS, len(requests)):
            client.within(60).bid_batch(requests)
        # two models at a time are the most that there ever are
        for version in VERSIONS[::-1]:
            client.reload_artifact(version)


class Soak:
    """Everybody who calls one server, and what they saw."""

    def __init__(self, server: Process, http: str, share: float, measure_s: float) -> None:
        users = people(8000, 2000)
        self._server, self._address = server, server.address
        self._users = users
        self._bodies = {RECOMMEND: recommend_bodies(users), BID: bid_bodies(users)}
        self._share, self._measure_s = share, measure_s
        self.rates: dict[str, float] = {}
        self.callers: dict[str, tuple[Caller, float]] = {
            "exchange": (Exchange(self._address, users), 0.01),
            "streams": (StreamExchange(self._address, users), 0.1),
            "http": (HttpExchange(http, users), 0.01),
            "swaps": (Swapper(self._address, VERSIONS[::-1]), 60.0),
        }
        stream = bidder_pb2.BidStreamRequest(request=bid_requests(users[:1])[0]).SerializeToString()
        json_body = json.dumps(bid_request(0, users[0], FEW)).encode()
        self.misbehaving: dict[str, Misbehaviour] = {
            "grpc": GrpcMisbehaviour(self._address, RECOMMEND, self._bodies[RECOMMEND][0], BID_STREAM, stream),
            "http": HttpMisbehaviour(http, "/openrtb2/bid", json_body),
        }

    def run(self, warm: float, minutes: float) -> dict[str, Any]:
        """Load and misbehaviour for so many minutes; what was seen after the first ``warm`` of them."""
        watch = Watch(self._server)
        everybody = (*self.misbehaving.values(), *(caller for caller, _ in self.callers.values()), watch)
        with ThreadPoolExecutor(16) as pool:
            others = [pool.submit(wrong.run, 0.05) for wrong in self.misbehaving.values()]
            others += [pool.submit(caller.run, pause_s) for caller, pause_s in self.callers.values()]
            try:
                if warm:
                    fill(self._address, self._users)
                self.rates = self._measure(pool)
                if warm:
                    self._load(pool, warm)
                others.append(pool.submit(watch.run))
                answered = self._load(pool, minutes)
            finally:  # the pool waits for them, whatever went wrong
                for each in everybody:
                    each.stop()
            for other in others:
                other.result()
        rise, error = slope(watch.sizes)
        return {
            "rates": self.rates,
            "answered": answered,
            "callers": {name: dict(caller.outcomes) for name, (caller, _) in self.callers.items()},
            "misbehaved": {name: dict(wrong.done) for name, wrong in self.misbehaving.items()},
            "rss_mb": {"first": watch.sizes[0], "last": watch.sizes[-1], "most": max(watch.sizes)},
            "rise_mb_a_minute": rise,
            "rise_within": error,
            "threads": {"first": watch.threads[0], "last": watch.threads[-1], "most": max(watch.threads)},
            "files": {"first": watch.files[0], "last": watch.files[-1], "most": max(watch.files)},
        }

    def _measure(self, pool: ThreadPoolExecutor) -> dict[str, float]:
        """The share of what both methods reach at once, in calls a second."""
        seconds = self._measure_s
        calls = {
            path: pool.submit(load, self._address, path, some, in_flight=32, seconds=seconds, warm=seconds / 4)
            for path, some in self._bodies.items()
        }
        return {path: float(call.result()["per_s"]) * self._share for path, call in calls.items()}

    def _load(self, pool: ThreadPoolExecutor, minutes: float) -> dict[str, Any]:
        calls = {
            path: pool.submit(
                load, self._address, path, self._bodies[path], rate=rate, seconds=minutes * 60, warm=0, timeout_ms=5000
            )
            for path, rate in self.rates.items()
        }
        return {path: call.result() for path, call in calls.items()}


def check_calls(seen: dict[str, Any]) -> list[str]:
    """What went wrong with memory and ordinary calls."""
    wrong = []
    if seen["rise_mb_a_minute"] - seen["rise_within"] > MOST_MB_A_MINUTE:
        wrong.append(f"memory rises by {seen['rise_mb_a_minute']:.2f} MB a minute")
    counted = {
        path: {"ok": result["statuses"].get("0", 0), "refused": result["statuses"].get("14", 0)}
        | {f"status {code}": n for code, n in result["statuses"].items() if code not in ("0", "14")}
        | {name: result[name] for name in ("broken", "given_up") if result[name]}
        for path, result in seen["answered"].items()
    }
    for name, outcomes in (counted | seen["callers"]).items():
        bad = {what: n for what, n in outcomes.items() if what not in ("ok", "refused")}
        if bad:
            wrong.append(f"{name}: {bad}")
        if outcomes.get("refused", 0) > max(MOST_REFUSED * sum(outcomes.values()), 1):
            wrong.append(f"{name}: {outcomes['refused']} of {sum(outcomes.values())} were refused")
        if not outcomes.get("ok") and outcomes:
            wrong.append(f"{name}: not one succeeded")
    return wrong


def in_flight(metrics: str) -> dict[str, int]:
    """Calls that each door still holds, by what it tells Prometheus."""
    with urlopen(f"http://{metrics}/metrics", timeout=5) as page:
        text = page.read().decode()
    found = re.findall(r'^headrace_door_(in_flight|waiting|open_streams)\{door="(\w+)"\} (\d+)', text, re.MULTILINE)
    return {f"{door} {what}": int(n) for what, door, n in found if int(n)}


def within(seconds: float, held: Callable[[], Any]) -> Any:
    """What is still held when nothing is, or so many seconds have passed."""
    end = time.monotonic() + seconds
    while (left := held()) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def check_rest(server: Process, metrics: str, idle: tuple[int, int], native: bool) -> list[str]:
    """What is left behind now that nobody calls; idle : threads and files before anybody did."""
    wrong = []
    if left := within(5, lambda: in_flight(metrics)):
        wrong.append(f"calls are left in flight: {left}")
    if more := within(5, lambda: max(server.n_files() - idle[1] - SPARE_FILES, 0)):
        wrong.append(f"{more + SPARE_FILES} files are left open")
    if native and (more := within(5, lambda: max(server.n_threads() - idle[0] - SPARE_THREADS, 0))):
        wrong.append(f"{more + SPARE_THREADS} threads are left")
    said = subprocess.run(
        [sys.executable, "-m", "headrace", "health", "--at", server.address],
        capture_output=True,
        text=True,
        check=False,
    )
    if said.stdout.strip() != "SERVING":
        wrong.append(f"health says {said.stdout or said.stderr}")
    with Client(server.address) as client:
        accounts = client.within(10).list_campaigns().advertisers
    for account in accounts:
        out = account.billed_micros + account.won_micros + account.reserved_micros + account.lease_unused_micros
        if out > account.budget_in_force_micros:
            wrong.append(f"the books of {account.account_id} do not balance")
    if not any(account.billed_micros for account in accounts):
        wrong.append("nothing was billed")
    return wrong


def check_end(server: Process, log: Path, minutes: float, seen: dict[str, Any]) -> list[str]:
    """What goes wrong when the server is told to stop, and what it wrote."""
    wrong = []
    start = time.monotonic()
    code = server.stop()
    seen["stop_s"] = time.monotonic() - start
    if code or seen["stop_s"] > MOST_STOP_S:
        wrong.append(f"exit code {code} after {seen['stop_s']:.1f} s: calls were stuck")
    lines = log.read_text("utf-8", "replace").splitlines()
    seen["log"] = {"lines": len(lines), "last": lines[-5:]}
    if len(lines) > 20 + MOST_LOG_LINES_A_MINUTE * minutes:
        wrong.append(f"{len(lines)} lines of log")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="how long memory and calls are looked at")
    parser.add_argument("--warm", type=float, default=1, help="minutes before that; 0 fills no caches")
    parser.add_argument("--share", type=float, default=0.7, help="of what the server can do")
    parser.add_argument("--door", default="auto")
    parser.add_argument("--json", type=Path, help="where to write what is printed, too")
    parser.add_argument("--log", type=Path, help="where the server's log is kept")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = chosen.log or folder / "log"
        publish(folder / "artifacts", 10_000, 20_000, versions=VERSIONS)
        environment = {
            "HEADRACE_LEDGER_EXPIRE_AFTER_MS": "2000",
            "HEADRACE_HTTP_LISTEN": "127.0.0.1:0",
            "HEADRACE_TELEMETRY_METRICS_LISTEN": "127.0.0.1:0",
        }
        with serving(folder, "--door", chosen.door, log=log, **environment) as server:
            http, metrics = (
                re.findall(rf"{what} on ([\d.]+:\d+)", log.read_text())[0] for what in ("OpenRTB over HTTP", "metrics")
            )
            fund(server.address, campaigns_pb2.LEDGER_MODE_EXPIRE)
            idle = (server.n_threads(), server.n_files())
            seen = Soak(server, http, chosen.share, min(4, chosen.minutes * 15)).run(chosen.warm, chosen.minutes)
            wrong = check_calls(seen) + check_rest(server, metrics, idle, chosen.door != "grpcio")
            seen["idle"] = {"threads": idle[0], "files": idle[1]}
            wrong += check_end(server, log, chosen.warm + chosen.minutes, seen)
    print(json.dumps(seen, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(seen, indent=1))
    for line in wrong:
        print("WRONG:", line)
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
