"""CPU a call through the grpcio door, 32 unary calls in flight from another process on the other core.

    python benchmarks/bench_door.py [--seconds 1] [--rounds 9] [--json FILE]

Rows: a constant answer through our door and through grpcio's own two servers; Recommend over 20,000 items, d = 64,
histories of 50 events, k = 20; Bid with one impression and 20 line items. Both are asked by the same 2,000 people,
drawn uniformly with repetition, so most have asked before and their factors are remembered; "Recommend, asked first"
is by people who never asked: their names are looked up and their factors folded in. Rows take turns, a short phase
each, and numbers are medians over the rounds. CPU is the server process's own account
(getrusage, user + system, all threads), so it holds what the transport does too. Handler CPU is what a call costs
beyond the constant answer; beside it stands the same handler called in-process. Targets: Recommend at most 75 % and
Bid at most 30 % of the constant answer through the door.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import multiprocessing
import os
import platform
import random
import resource
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import grpc
import grpc.aio

from headrace.v1 import bidder_pb2, campaigns_pb2, recommender_pb2

IN_FLIGHT = 32
N_USERS, N_ITEMS, D, HISTORY, K = 40_000, 20_000, 64, 50, 20
N_ASKING, N_BODIES = 2_000, 8_000
"""People who ask again and again, the first of the users; calls that are prepared, and then repeated."""

N_LINES = 20
NOOP = "/headrace.v1.RecommenderService/Recommend"
BID = "/headrace.v1.BidderService/Bid"
NEW = "Recommend, asked first"
ANSWER = bytes(600)

Ready = Callable[[str], None]


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# -- servers; each runs in a process of its own and returns what must stay alive


def door_noop(ready: Ready) -> Any:
    from headrace.config import DoorConfig
    from headrace.front import Reply, make_door

    door = make_door("grpcio", [NOOP], "127.0.0.1:0", DoorConfig())

    def work() -> None:
        while batch := door.next_batch(64):
            door.reply(batch, [Reply(ANSWER)] * len(batch))

    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    ready(door.start())
    return door


def _generic(handle: Any) -> Any:
    _, service, method = NOOP.split("/")
    return grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(handle)})


def grpcio_threads(ready: Ready) -> Any:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[_generic(lambda body, context: ANSWER)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    return server


def grpcio_asyncio(ready: Ready) -> Any:
    async def handle(body: bytes, context: Any) -> bytes:
        return ANSWER

    async def main() -> None:
        server = grpc.aio.server(handlers=[_generic(handle)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    return thread


def whole_server(ready: Ready) -> Any:
    from headrace import Client
    from headrace.config import load_config
    from headrace.service.assembly import Assembly
    from headrace.service.server import Server

    folder = Path(tempfile.mkdtemp(prefix="bench-door-"))
    publish(folder / "artifacts")
    flags = {"server": {"artifact": str(folder / "artifacts"), "data": str(folder / "data"), "listen": "127.0.0.1:0"}}
    assembly = Assembly(load_config(flags=flags, environment={}))
    methods = assembly.methods()
    server = Server({"": methods}, load_config(flags=flags, environment={}))
    address = server.start()
    following = assembly.following(server.set_serving)
    following.__enter__()
    with Client(address) as client:
        client.fund_advertiser("deposit", "a", 10**12)
        client.create_campaign(campaign())
    ready(address)
    return {method.name: method for method in methods}, following


def publish(root: Path) -> None:
    from headrace.artifacts import ArtifactStore

    path = Path(__file__).parents[1] / "tests" / "factories.py"
    spec = importlib.util.spec_from_file_location("factories", path)
    assert spec is not None
    assert spec.loader is not None
    factories = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factories)
    store = ArtifactStore(root)
    factories.write_artifact(store, "bench", N_USERS, N_ITEMS, D, history=HISTORY)
    store.publish("bench")


def campaign() -> campaigns_pb2.Campaign:
    lines = [
        campaigns_pb2.LineItem(line_item_id=f"l{n}", item_ids=[f"i{n}", f"i{n + 100}"], action_worth_micros=20_000_000)
        for n in range(N_LINES)
    ]
    limits = campaigns_pb2.Limits(lifetime_micros=10**12)
    return campaigns_pb2.Campaign(campaign_id="c", advertiser_id="a", limits=limits, line_items=lines)


# -- measuring


def child(serve: Any, pipe: Any) -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kept = serve(pipe.send)
    while True:
        command, *arguments = pipe.recv()
        if command == "stop":
            os._exit(0)
        pipe.send(cpu_s() if command == "cpu" else in_process(kept[0][arguments[0]], *arguments[1:]))


def in_process(method: Any, bodies: list[bytes], batch: int) -> float:
    """Microseconds of this thread's CPU a call: decode, handle, encode, ``batch`` calls at once."""
    from headrace.front import Call
    from headrace.service.dispatch import answer

    calls = [Call(method.name, body, float("inf"), "", {}, None) for body in bodies]
    batches = [calls[start : start + batch] for start in range(0, len(calls), batch)]
    costs = []
    for _ in range(4):
        start = time.thread_time()
        for some in batches:
            assert all(reply.status == 0 for reply in answer(method, some))
        costs.append((time.thread_time() - start) / len(calls) * 1e6)
    return min(costs)


def load(address: str, method: str, bodies: list[bytes], seconds: float) -> tuple[int, float]:
    """Keep 32 calls in flight; returns how many were answered, in how many seconds."""
    answered, open_calls, lock, over = 0, IN_FLIGHT, threading.Lock(), threading.Event()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(method)
        start = time.perf_counter()

        def next_call(previous: Any) -> None:
            nonlocal answered, open_calls
            if previous is not None:
                previous.result()
            with lock:
                answered += previous is not None
                number = answered
                going = time.perf_counter() < start + seconds
                open_calls -= not going
                if not open_calls:
                    over.set()
            if going:
                call.future(bodies[number % len(bodies)], timeout=10).add_done_callback(next_call)

        for _ in range(IN_FLIGHT):
            next_call(None)
        over.wait()
        return answered, time.perf_counter() - start


class Measured(NamedTuple):
    """Microseconds of CPU a call, calls a second, calls."""

    cpu_us: float
    rate: float
    count: int


class Served:
    """One server in its process."""

    def __init__(self, serve: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, there = context.Pipe()
        self.process = context.Process(target=child, args=(serve, there), daemon=True)
        self.process.start()
        self.address = self.pipe.recv()

    def ask(self, *command: Any) -> float:
        self.pipe.send(command)
        return float(self.pipe.recv())

    def measure(self, method: str, bodies: list[bytes], seconds: float) -> Measured:
        before = self.ask("cpu")
        count, took = load(self.address, method, bodies, seconds)
        return Measured((self.ask("cpu") - before) / count * 1e6, count / took, count)

    def stop(self) -> None:
        self.pipe.send(("stop",))
        self.process.join()


def asking() -> list[str]:
    """Who asks, call by call; the same for recommendations and bids."""
    return [f"u{n}" for n in random.Random(1).choices(range(N_ASKING), k=N_BODIES)]


def recommend_bodies(user_ids: Iterable[str]) -> list[bytes]:
    return [recommender_pb2.RecommendRequest(user_id=user_id, limit=K).SerializeToString() for user_id in user_ids]


def bid_bodies() -> list[bytes]:
    return [
        bidder_pb2.BidRequest(
            bid_request_id=f"b{n}",
            user_id=user_id,
            exchange="adx",
            impressions=[bidder_pb2.Impression(impression_id="1")],
        ).SerializeToString()
        for n, user_id in enumerate(asking())
    ]


def check_answers(address: str) -> None:
    """All that is timed below must be worth timing."""
    with grpc.insecure_channel(address) as channel:
        for body in recommend_bodies(asking()[:50]):
            slate = recommender_pb2.RecommendResponse.FromString(channel.unary_unary(NOOP)(body, timeout=10))
            assert len(slate.items) == K
            assert slate.tier == recommender_pb2.TIER_EXACT
        answers = [
            bidder_pb2.BidResponse.FromString(channel.unary_unary(BID)(b, timeout=10)) for b in bid_bodies()[:50]
        ]
    bids = sum(answer.impressions[0].bid_cpm_micros > 0 for answer in answers)
    print(f"{bids} of 50 bid requests get a bid")
    assert bids


def run(seconds: float, rounds: int) -> dict[str, Any]:
    rows: dict[str, tuple[Any, str, list[bytes]]] = {
        "door, constant answer": (door_noop, NOOP, [bytes(40)]),
        "grpcio threads, constant answer": (grpcio_threads, NOOP, [bytes(40)]),
        "grpcio asyncio, constant answer": (grpcio_asyncio, NOOP, [bytes(40)]),
        "Recommend": (whole_server, NOOP, recommend_bodies(asking())),
        "Bid": (whole_server, BID, bid_bodies()),
        NEW: (whole_server, NOOP, recommend_bodies(f"u{n}" for n in range(N_ASKING, N_USERS))),
    }
    servers = {serve: Served(serve) for serve in dict.fromkeys(serve for serve, _, _ in rows.values())}
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    check_answers(servers[whole_server].address)
    measured: dict[str, list[Measured]] = {name: [] for name in rows}
    for turn in range(rounds + 1):
        for name, (serve, method, bodies) in rows.items():
            result = servers[serve].measure(method, bodies, seconds if turn else 0.5)
            if name == NEW:  # nobody of them asks again
                del bodies[: result.count + IN_FLIGHT]
            if turn:  # the first turn warms up
                measured[name].append(result)
    alone = {
        (name, batch): servers[whole_server].ask("handler", rows[name][1], rows[name][2], batch)
        for name in ("Recommend", "Bid")
        for batch in (1, 8)
    }
    for server in servers.values():
        server.stop()
    return report(measured, alone)


def report(measured: dict[str, list[Measured]], alone: dict[tuple[str, int], float]) -> dict[str, Any]:
    noop = statistics.median(each.cpu_us for each in measured["door, constant answer"])
    table: dict[str, Any] = {}
    print(f"\n{'':34}{'us CPU a call':>14}  {'min..max':>15}  {'calls/s':>8}")
    for name, results in measured.items():
        costs, rates = [each.cpu_us for each in results], [each.rate for each in results]
        row = {"cpu_us": statistics.median(costs), "min": min(costs), "max": max(costs)}
        table[name] = row | {"calls_per_s": statistics.median(rates)}
        print(
            f"{name:34}{row['cpu_us']:14.1f}  {row['min']:7.1f}..{row['max']:<6.1f}  {table[name]['calls_per_s']:8.0f}"
        )
    print(f"\n{'':12}{'handler CPU = above - door':>28}{'in-process, 1 at once':>24}{'8 at once':>12}{'target':>10}")
    constant = [each.cpu_us for each in measured["door, constant answer"]]
    for name, target in (("Recommend", 0.75), ("Bid", 0.30)):
        # each round against its own constant answer, so that what slows a whole round cancels
        over = statistics.median(each.cpu_us - base for each, base in zip(measured[name], constant, strict=True))
        one, eight = alone[name, 1], alone[name, 8]
        shares = [f"{cost:.0f} us ({cost / noop:.0%})" for cost in (over, one, eight)]
        print(f"{name:12}{shares[0]:>28}{shares[1]:>24}{shares[2]:>12}{target:>10.0%}")
        table[name] |= {"handler_us": over, "handler_share": over / noop, "alone_us": one, "alone_8_us": eight}
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    packages = {name: version(name) for name in ("grpcio", "protobuf", "numpy", "numba", "headrace")}
    print(platform.processor() or platform.machine(), os.cpu_count(), "cores", platform.python_version(), packages)
    result = run(chosen.seconds, chosen.rounds)
    if chosen.json:
        chosen.json.write_text(json.dumps(result, indent=1))
