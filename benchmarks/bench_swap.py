"""Start to ready, and a hot swap under load, with a large artifact: failed calls, p99, resident memory.

    python benchmarks/bench_swap.py [--items N] [--factors D] [--users N] [--share S] [--swaps N] [--folder DIR]

The load arrives by a Poisson process from one core, at a share of what 4 calls in flight get answered; the server may
use all cores. Runs with swaps in them, each made two seconds after the one before, take turns with runs of the same
length without; figures of a kind of run are of all its calls. Every answer must be OK and an exact slate.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from artifact import made_ids, write_artifact
from load import ALL_CORES, Process, load
from served import EXACT, RECOMMEND, people, recommend_bodies, serving

from headrace import Client
from headrace.artifacts import ArtifactStore

VERSIONS = "1-bench", "2-bench"
"""Both end as `EXACT` begins."""

PAUSE_S, MB = 2.0, 1e6


class Watch:
    """Within: the highest resident memory of a server."""

    def __init__(self, server: Process) -> None:
        self.server = server
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self.server.rss_bytes())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class Swapper:
    """Swaps back and forth, on a thread, until told to stop; ``took`` has the seconds of each swap."""

    def __init__(self, address: str) -> None:
        self.took: list[float] = []
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._swap)

    def _swap(self) -> None:
        with Client(self._address) as client:
            while not self._over.wait(PAUSE_S):
                version = VERSIONS[client.current_artifact().artifact.version == VERSIONS[0]]
                began = time.monotonic()
                assert client.within(60).reload_artifact(version).changed
                self.took.append(time.monotonic() - began)

    def __enter__(self) -> Swapper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def run(server: Process, bodies: list[bytes], share: float, seconds: float, rounds: int) -> None:
    """Print steady runs and runs with swaps in them."""
    asked: dict[str, Any] = {"connections": 4, "mark": EXACT.hex()}
    load(server.address, RECOMMEND, bodies, in_flight=4, seconds=2, warm=1, **asked)
    capacity = load(server.address, RECOMMEND, bodies, in_flight=4, seconds=5, warm=1, **asked)["per_s"]
    before, peak, took = server.rss_bytes(), 0, []
    print(f"capacity {capacity:.0f} calls/s, load {share * capacity:.0f}")
    runs: dict[str, list[dict[str, Any]]] = {"steady": [], "with swaps": []}

    def ask() -> dict[str, Any]:
        return load(server.address, RECOMMEND, bodies, rate=share * capacity, seconds=seconds, warm=0, **asked)

    for _ in range(rounds):
        runs["steady"].append(ask())
        with Watch(server) as watch, Swapper(server.address) as swapper:
            runs["with swaps"].append(ask())
        took += swapper.took
        peak = max(peak, watch.peak)
    print(f"{len(took)} swaps, {median(took):.2f} s each")
    for name, results in runs.items():
        show(name, results)
    print(f"resident: {before / MB:.0f} MB before, {peak / MB:.0f} MB peak, {server.rss_bytes() / MB:.0f} MB after; "
          f"peak / before {peak / before:.2f}")  # fmt: skip


def show(name: str, results: list[dict[str, Any]]) -> None:
    """One line for runs of a kind: sums of calls, medians of latencies."""
    n = {key: sum(result[key] for result in results) for key in ("offered", "answered", "marked", "broken")}
    failed = n["offered"] - n["answered"]
    p50, p99, most = (median(result[f"{key}_us"] for result in results) / 1000 for key in ("p50", "p99", "max"))
    print(f"{name:11}{n['offered']:7} calls, {failed} failed, {n['broken']} broken, {n['answered'] - n['marked']} not "
          f"exact; p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {most:.1f} ms")  # fmt: skip
    for status in sorted({status for result in results for status in result["statuses"]} - {"0"}):
        print(f"{'':11}status {status}: {sum(result['statuses'].get(status, 0) for result in results)}")


def start(folder: Path, turns: int, stack: ExitStack) -> Process:
    """Start several times, print how long it took; the last one's server."""
    took = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as data, serving(folder, "--data", data, cores=ALL_CORES) as server:
            took.append((server.started_s, server.cpu_s()))
            server.stop()
    wall, cpu = (median(times) for times in zip(*took[1:], strict=True))
    print(f"start to ready: {wall:.2f} s, {cpu:.2f} s of CPU; the first, which fills caches: {took[0][0]:.2f} s")
    data = stack.enter_context(tempfile.TemporaryDirectory())
    return stack.enter_context(serving(folder, "--data", data, cores=ALL_CORES))


def main() -> None:
    """Make two versions, start, load, swap."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the artifacts here, and use those that are there")
    chosen = parser.parse_args()
    with ExitStack() as stack:
        folder = chosen.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = ArtifactStore(folder / "artifacts")
        if not store.versions():
            ids = made_ids(chosen.users, chosen.items)
            for seed, version in enumerate(VERSIONS):
                write_artifact(store, version, ids, d=chosen.factors, seed=seed)
        store.publish(VERSIONS[0], force=True)
        server = start(folder, chosen.starts, stack)
        bodies = recommend_bodies(people(8000, 2000))
        run(server, bodies, chosen.share, chosen.seconds, chosen.rounds)
        server.stop()


if __name__ == "__main__":
    main()
