"""The whole service on one core, asked from the other, beside its peers in the same run.

    python benchmarks/bench_service.py [--seconds 3] [--rounds 3] [--only constant recommend bid openrtb] [--json FILE]

CPU a call is the server process's own account by the kernel (user + system, all threads), so it holds the transport.
Rows take turns, a short phase each; numbers are medians over the rounds, the spread is printed. The load is closed, 64
calls in flight over 8 connections, for rates and CPU; one call at a time for the latency of a lone call; an open
loop at half of the row's own capacity for p99 against p50. Before anything is timed the answers are checked.

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
    FEW,
    MANY,
    RECOMMEND,
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

N_USERS, N_ITEMS, N_ASKING, BATCH = 60_000, 100_000, 2_000, 256
CLOSED = {"connections": 8, "in_flight": 64, "warm": 0.3}
ALONE = {"connections": 1, "in_flight": 1, "warm": 0.3}


@dataclass
class Row:
    """One line of the table: what is asked of which server, and how many answers a call stands for."""

    name: str
    server: Process
    path: str
    bodies: list[bytes]
    per_call: int = 1
    once: bool = False
    cpu_us: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    alone_us: list[float] = field(default_factory=list)
    p50_us: float = 0
    p99_us: float = 0

    def measure(self, seconds: float) -> None:
        before = self.server.cpu_s()
        result = load(self.server.address, self.path, self.bodies, seconds=seconds, **CLOSED)
        took, answered = self.server.cpu_s() - before, result["answered"] + CLOSED["warm"] * result["per_s"]
        assert set(result["statuses"]) == {"0"}, result
        self.cpu_us.append(took / answered / self.per_call * 1e6)
        self.rates.append(result["per_s"] * self.per_call)
        if self.once:  # nobody of them asks again
            del self.bodies[: int(answered) + 100]
        self.alone_us.append(load(self.server.address, self.path, self.bodies, seconds=seconds / 3, **ALONE)["p50_us"])

    def half(self, seconds: float) -> None:
        """Latencies at half of the row's capacity."""
        rate = statistics.median(self.rates) / self.per_call / 2
        result = load(self.server.address, self.path, self.bodies, rate=rate, connections=8, seconds=seconds, warm=0.5)
        self.p50_us, self.p99_us = result["p50_us"], result["p99_us"]

    def line(self) -> str:
        cpu, rate = statistics.median(self.cpu_us), statistics.median(self.rates)
        spread = f"{min(self.cpu_us):.1f}..{max(self.cpu_us):.1f}"
        latencies = f"{statistics.median(self.alone_us):8.0f} {self.p50_us:8.0f} {self.p99_us:8.0f}"
        return (
            f"{self.name:42}{cpu:9.1f} {spread:>17} {rate:10.0f} {latencies} {self.p99_us / max(self.p50_us, 1):6.1f}"
        )


HEAD = (
    f"{'':42}{'CPU us':>9} {'min..max':>17} {'a second':>10} {'alone p50':>8} {'half p50':>8} {'p99':>8} {'ratio':>6}"
)


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
        Row("Recommend, native door", native, RECOMMEND, again),
        Row("Recommend, native door, asked first", native, RECOMMEND, first, once=True),
        Row("Recommend, grpcio door", grpcio, RECOMMEND, again),
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
        Row("Bid, 10 of 1,000 match", server, BID, bid_bodies(users, FEW)),
        Row("Bid, 64 of 1,000 match", server, BID, bid_bodies(users, MANY)),
        Row(f"BidBatch of {BATCH}, a decision", server, BID_BATCH, batch_bodies(users, BATCH), BATCH),
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
            "half_p50_us": row.p50_us,
            "half_p99_us": row.p99_us,
        }
        for row in rows
    }


def run(make: Callable[[ExitStack], list[Row]], seconds: float, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        rows = make(stack)
        for _ in range(rounds):
            for row in rows:
                row.measure(seconds)
        for row in rows:
            row.half(seconds)
        return report(rows)


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
