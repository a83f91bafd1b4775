"""CPU a call through the grpcio door, with 32 unary calls in flight from another process on another core.

    python benchmarks/bench_door.py [--seconds 3] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import resource
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import grpc.aio

IN_FLIGHT = 32
NOOP = "/headrace.v1.RecommenderService/Recommend"
ANSWER = bytes(600)


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def serve_door_noop(ready: Callable[[str], None]) -> None:
    from headrace.config import DoorConfig
    from headrace.front import Reply, make_door

    door = make_door("grpcio", [NOOP], "127.0.0.1:0", DoorConfig())

    def work() -> None:
        while batch := door.next_batch(64):
            door.reply(batch, [Reply(ANSWER)] * len(batch))

    for _ in range(2):
        threading.Thread(target=work, daemon=True).start()
    ready(door.start())


def _generic(handle: Any) -> Any:
    handlers = {NOOP.split("/")[2]: grpc.unary_unary_rpc_method_handler(handle)}
    return grpc.method_handlers_generic_handler(NOOP.split("/")[1], handlers)


def serve_aio_noop(ready: Callable[[str], None]) -> None:
    async def main() -> None:
        async def handle(body: bytes, context: Any) -> bytes:
            return ANSWER

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((_generic(handle),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()


def serve_sync_noop(ready: Callable[[str], None]) -> None:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[_generic(lambda body, context: ANSWER)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    ready(f"127.0.0.1:{port}")
    globals()["_keep"] = server


def child(serve: Any, pipe: Any, core: int) -> None:
    os.sched_setaffinity(0, {core})
    serve(pipe.send)
    while pipe.recv() == "cpu":
        pipe.send(cpu_s())
    os._exit(0)


def load(address: str, method: str, bodies: list[bytes], seconds: float) -> tuple[int, float]:
    """Keep 32 calls in flight; returns how many were answered, in how many seconds."""
    done, lock, over = [0, IN_FLIGHT], threading.Lock(), threading.Event()
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(method)
        start = time.perf_counter()
        end = start + seconds

        def next_call(previous: Any) -> None:
            if previous is not None:
                previous.result()
            with lock:
                done[0] += previous is not None
                number = done[0]
            if time.perf_counter() < end:
                call.future(bodies[number % len(bodies)], timeout=10).add_done_callback(next_call)
                return
            with lock:
                done[1] -= 1
                if not done[1]:
                    over.set()

        for _ in range(IN_FLIGHT):
            next_call(None)
        over.wait()
        return done[0], time.perf_counter() - start


def measure(serve: Any, method: str, bodies: list[bytes], seconds: float, rounds: int) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=child, args=(serve, there, 0), daemon=True)
    process.start()
    address = here.recv()
    os.sched_setaffinity(0, {1})
    load(address, method, bodies, 0.5)
    costs, rates = [], []
    for _ in range(rounds):
        here.send("cpu"); before = here.recv()
        count, took = load(address, method, bodies, seconds)
        here.send("cpu"); after = here.recv()
        costs.append((after - before) / count * 1e6)
        rates.append(count / took)
    here.send("stop")
    process.join()
    print(f"{serve.__name__:20} {statistics.median(costs):7.1f} us/call [{min(costs):.1f}..{max(costs):.1f}] {statistics.median(rates):8.0f} calls/s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    for serve in (serve_door_noop, serve_aio_noop, serve_sync_noop):
        measure(serve, NOOP, [b"x" * 40], args.seconds, args.rounds)
