"""What the transport alone costs: a constant answer of 600 bytes through each door and its peers.

    python benchmarks/bench_door.py [--seconds 2] [--rounds 5] [--json FILE]

The server runs on one core, the load on the other. CPU a call is the server process's own account by the kernel (user +
system, all threads). Rows take turns, a short phase each; numbers are medians over the rounds, ratios are of one round
each, so that what slows a whole round cancels. The echo server is plain C++ gRPC (callback API), the ceiling.
Targets: the native door at most 1.5 x the echo server's CPU, and at least 7 x cheaper than grpcio on asyncio; one call
alone at most 1.5 x the echo server's p50. The rows with gates are the native door with access, admission and telemetry
as a served call passes them, with and without keys, around a method that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
from load import Process, build, load
from peers import ANSWER, RECOMMEND

from headrace.security.keys import create_key
from headrace.security.roles import Role

ECHO, NATIVE, ASYNCIO = "C++ gRPC callback server", "native door", "grpcio on asyncio"
GATED, KEYED = "all gates, no-op", "all gates, keys, no-op"
PEERS = {
    NATIVE: "constant-native",
    "grpcio door": "constant-grpcio",
    "grpcio on threads": "grpcio-threads",
    ASYNCIO: "grpcio-asyncio",
}
LOADS = {
    "64 in flight, 8 connections": {"in_flight": 64, "connections": 8},
    "32 in flight, 1 connection": {"in_flight": 32, "connections": 1},
    "one at a time": {"in_flight": 1, "connections": 1},
}
WARM = 0.3


def servers(stack: ExitStack) -> tuple[dict[str, Process], list[str]]:
    """All contenders, started, and the headers of calls to them: a key, whether one is asked for or not."""
    started = {ECHO: Process([str(build("echo_server", "grpc++")), str(len(ANSWER))])}
    keys = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "keys.toml"
    _, key = create_key(keys, Role.STOREFRONT, now=datetime.now(UTC))
    peers = {**{name: (peer,) for name, peer in PEERS.items()}, GATED: ("gated",), KEYED: ("gated", str(keys))}
    for name, arguments in peers.items():
        started[name] = Process.python(str(Path(__file__).parent / "peers.py"), *arguments)
    metadata = [("authorization", f"Bearer {key}")]
    for server in started.values():
        stack.enter_context(server)
        with grpc.insecure_channel(server.address) as channel:
            assert channel.unary_unary(RECOMMEND)(bytes(40), timeout=10, metadata=metadata) == ANSWER
    return started, [f"authorization:Bearer {key}"]


def measure(server: Process, headers: list[str], seconds: float, **how: int) -> dict[str, float]:
    """Microseconds of CPU a call, calls a second, p50 and p99 of their latency."""
    before = server.cpu_s()
    result = load(server.address, RECOMMEND, [bytes(40)], headers=headers, seconds=seconds, warm=WARM, **how)
    took = server.cpu_s() - before
    assert set(result["statuses"]) == {"0"}, result
    answered = result["answered"] + WARM * result["per_s"]
    return {"cpu_us": took / answered * 1e6, **{name: result[name] for name in ("per_s", "p50_us", "p99_us")}}


def run(seconds: float, rounds: int) -> dict[str, Any]:
    rows: dict[str, dict[str, list[dict[str, float]]]] = {}
    with ExitStack() as stack:
        contenders, headers = servers(stack)
        for _ in range(rounds):
            for how, options in LOADS.items():
                for name, server in contenders.items():
                    measured = measure(server, headers, seconds, **options)
                    rows.setdefault(how, {}).setdefault(name, []).append(measured)
    return {how: report(how, measured) for how, measured in rows.items()}


def report(how: str, measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    print(f"\n{how:32}{'CPU us a call':>14}{'min..max':>16}{'/ echo':>8}{'calls/s':>10}{'p50 us':>9}{'p99 us':>9}")
    table: dict[str, Any] = {}
    for name, rounds in measured.items():
        costs = [each["cpu_us"] for each in rounds]
        row = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
        row["of_echo"] = ratio(rounds, measured[ECHO])
        table[name] = row
        print(
            f"  {name:30}{row['cpu_us']:14.1f}{min(costs):9.1f}..{max(costs):<5.1f}{row['of_echo']:8.2f}"
            f"{row['per_s']:10.0f}{row['p50_us']:9.0f}{row['p99_us']:9.0f}"
        )
    for name in (GATED, KEYED):
        extra = statistics.median(
            a["cpu_us"] - b["cpu_us"] for a, b in zip(measured[name], measured[NATIVE], strict=True)
        )
        print(f"  {name}: {extra:.1f} us a call beyond the native door")
    print(f"  grpcio on asyncio costs {ratio(measured[ASYNCIO], measured[NATIVE]):.1f} x the native door")
    return table


def ratio(some: list[dict[str, float]], others: list[dict[str, float]]) -> float:
    return statistics.median(a["cpu_us"] / b["cpu_us"] for a, b in zip(some, others, strict=True))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    packages = {name: version(name) for name in ("grpcio", "headrace")}
    print(platform.processor() or platform.machine(), os.cpu_count(), "cores", platform.python_version(), packages)
    result = run(chosen.seconds, chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1))
