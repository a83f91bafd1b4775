"""The whole service on one core, asked from the other, beside its peers in the same run.

    python benchmarks/bench_service.py [--seconds 3] [--rounds 3] [--only constant recommend bid openrtb] [--json FILE]

CPU a call is the server process's own account by the kernel (user + system, all threads), so it holds the transport.
Rows take turns, a short phase each; numbers are medians over the rounds, the spread is printed. The load is closed, 64
calls in flight over 8 connections (batches: 2), for rates and CPU; one call at a time for the latency of a lone call;
an open loop at half of the row's own capacity, as often as there are rounds, for p99 against p50. Answers that are not
the whole work (popular items, no time to bid) are counted; the greatest share in any phase is printed and may be a
hundredth. Before anything is timed the answers are checked.

Recommend: 100,000 items of a clustered made-up catalogue, d = 64, histories of 50 events, k = 20, what was bought
before re-ranked; people either ask again (2,000 of them, drawn uniformly) or for the first time (each once).
Bid: 1,000 line items of which 10 or 64 match, ten promoted items each.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from artifact import PURCHASE, publish
from load import Process, build, load
from served import (
    BID,
    BID_BATCH,
    EXACT,
    FEW,
    MANY,
    RECOMMEND,
    TOKEN,
    K,
    batch_bodies,
    bid_bodies,
    fund,
    people,
    recommend_bodies,
    serving,
)

from headrace import Client
from headrace.artifacts import open_artifact
from headrace.reference.foldin import fold_in
from headrace.v1.recommender_pb2 import REPEAT_POLICY_EXCLUDE_PURCHASED

N_USERS, N_ITEMS, N_ASKING, BATCH = 80_000, 100_000, 2_000, 256
CLOSED = {"connections": 8, "warm": 0.3}
ALONE = {"connections": 1, "in_flight": 1, "warm": 0.3}


@dataclass
class Row:
    """One line of the table: what is asked of which server, and how many answers a call stands for."""

    name: str
    server: Process
    path: str
    bodies: list[bytes]
    mark: bytes = b""
    per_call: int = 1
    in_flight: int = 64
    once: bool = False
    cpu_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    alone_us: list[float] = field(default_factory=list)
    p50s_us: list[float] = field(default_factory=list)
    p99s_us: list[float] = field(default_factory=list)
    partly: float = 0

    def ask(self, seconds: float, **options: float) -> dict[str, Any]:
        """One load, all of it answered."""
        result = load(self.server.address, self.path, self.bodies, seconds=seconds, mark=self.mark.hex(), **options)
        assert set(result["statuses"]) == {"0"}, result
        if self.mark:
            self.partly = max(self.partly, 1 - result["marked"] / result["answered"])
        return result

    def measure(self, seconds: float) -> None:
        before = self.server.cpu_s()
        result = self.ask(seconds, in_flight=self.in_flight, **CLOSED)
        took, answered = self.server.cpu_s() - before, result["answered"] + CLOSED["warm"] * result["per_s"]
        self.cpu_us.append(took / answered / self.per_call * 1e6)
        self.rates.append(result["per_s"] * self.per_call)
        if self.once:  # nobody of them asks again
            del self.bodies[: int(answered) + 100]
        self.alone_us.append(self.ask(seconds / 3, **ALONE)["p50_us"])

    def half(self, seconds: float) -> None:
        """Latencies at half of the row's capacity."""
        rate = statistics.median(self.rates) / self.per_call / 2
        result = self.ask(seconds, rate=rate, connections=8, warm=0.5)
        self.p50s_us.append(result["p50_us"])
        self.p99s_us.append(result["p99_us"])

    @property
    def half_us(self) -> tuple[float, float]:
        """p50 and p99 at half of capacity."""
        return statistics.median(self.p50s_us), statistics.median(self.p99s_us)

    def line(self) -> str:
        cpu, rate = statistics.median(self.cpu_us), statistics.median(self.rates)
        spread = f"{min(self.cpu_us):.1f}..{max(self.cpu_us):.1f}"
        p50, p99 = self.half_us
        latencies = f"{statistics.median(self.alone_us):9.0f} {p50:8.0f} {p99:8.0f} {p99 / max(p50, 1):6.1f}"
        return f"{self.name:42}{cpu:9.1f} {spread:>17} {rate:10.0f} {latencies} {self.partly:8.2%}"


HEAD = (
    f"{'':42}{'CPU us':>9} {'min..max':>17} {'a second':>10} {'alone p50':>9} {'half p50':>8} {'p99':>8} {'ratio':>6}"
    f" {'partly':>8}"
)
MOST_PARTLY = 0.01


def constant_rows(stack: ExitStack) -> list[Row]:
    """A constant answer through every door."""
    echo = build("echo_server", "grpc++")
    servers = {"C++ gRPC callback server": Process([str(echo)])}
    for name in ("constant-native", "constant-grpcio", "grpcio-threads", "grpcio-asyncio"):
        servers[name] = Process.python(str(Path(__file__).parent / "peers.py"), name)
    return [Row(name, stack.enter_context(server), RECOMMEND, [bytes(40)]) for name, server in servers.items()]


def recommend_rows(stack: ExitStack, folder: Path) -> list[Row]:
    """Recommend through both doors, and implicit behind a plain grpcio server."""
    again = recommend_bodies(people(8000, N_ASKING))
    first = recommend_bodies([f"u{n}" for n in range(N_ASKING, N_USERS)])
    native = stack.enter_context(serving(folder, "--door", "native"))
    grpcio = stack.enter_context(serving(folder, "--door", "grpcio", "--data", str(folder / "data2")))
    peer = Process.python(str(Path(__file__).parent / "peers.py"), "implicit", str(folder / "artifacts"))
    print(f"recall@{K} against exact search: {recall(native.address, folder):.4f}")
    return [
        Row("Recommend, native door", native, RECOMMEND, again, EXACT),
        Row("Recommend, native door, asked first", native, RECOMMEND, first, EXACT, once=True),
        Row("Recommend, grpcio door", grpcio, RECOMMEND, again, EXACT),
        Row("implicit behind grpcio", stack.enter_context(peer), RECOMMEND, again),
    ]


def recall(address: str, folder: Path) -> float:
    """Share of the exact best K, bought items left out, that the slates served hold; exact is plain NumPy."""
    artifact = open_artifact(folder / "artifacts")
    gram = artifact.gram + artifact.manifest.regularization * np.eye(len(artifact.gram))
    found = []
    with Client(address) as client:
        for row in range(50):
            span = slice(artifact.history_indptr[row], artifact.history_indptr[row + 1])
            rows, confidence = artifact.history_items[span], artifact.manifest.alpha * artifact.history_weights[span]
            scores = artifact.item_factors @ fold_in(gram, artifact.item_factors, rows, confidence)
            scores[rows[artifact.history_types[span] == PURCHASE]] = -np.inf
            best = {f"i{item}" for item in np.argsort(-scores)[:K]}
            slate = client.recommend(f"u{row}", limit=K, repeat_policy=REPEAT_POLICY_EXCLUDE_PURCHASED)
            found.append(len(best & {item.item_id for item in slate.items}) / K)
    return statistics.fmean(found)


def bid_rows(stack: ExitStack, folder: Path) -> list[Row]:
    """Bid and BidBatch."""
    server = stack.enter_context(serving(folder, "--data", str(folder / "data3")))
    fund(server.address)
    users = people(8192, N_ASKING)
    return [
        Row("Bid, 10 of 1,000 match", server, BID, bid_bodies(users, FEW), TOKEN),
        Row("Bid, 64 of 1,000 match", server, BID, bid_bodies(users, MANY), TOKEN),
        Row(f"BidBatch of {BATCH}, a decision", server, BID_BATCH, batch_bodies(users, BATCH), TOKEN, BATCH, 2),
    ]


def report(rows: list[Row]) -> dict[str, Any]:
    print(HEAD)
    for row in rows:
        print(row.line())
    return {
        row.name: {
            "cpu_us": row.cpu_us,
            "per_s": row.rates,
            "alone_p50_us": row.alone_us,
            "half_p50_us": row.p50s_us,
            "half_p99_us": row.p99s_us,
            "partly": row.partly,
        }
        for row in rows
    }


def run(make: Callable[[ExitStack], list[Row]], seconds: float, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        rows = make(stack)
        for _ in range(rounds):
            for row in rows:
                row.measure(seconds)
        for _ in range(rounds):
            for row in rows:
                row.half(seconds)
        result = report(rows)
        for row in rows:
            assert row.partly <= MOST_PARTLY, f"{row.name}: {row.partly:.2%} of the answers were not the whole work"
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["constant", "recommend", "bid"])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    packages = {name: version(name) for name in ("grpcio", "protobuf", "numpy", "numba", "implicit", "headrace")}
    print(platform.machine(), platform.python_version(), packages)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"recommend", "bid"} & set(chosen.only):
            publish(folder / "artifacts", N_USERS, N_ITEMS)
        parts: dict[str, Callable[[ExitStack], list[Row]]] = {
            "constant": constant_rows,
            "recommend": lambda stack: recommend_rows(stack, folder),
            "bid": lambda stack: bid_rows(stack, folder),
        }
        for part in chosen.only:
            print(f"\n{part}")
            results[part] = run(parts[part], chosen.seconds, chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
