"""Start to ready, and a hot swap under load, with a large artifact: failed calls, p99, resident memory.

python benchmarks/bench_swap.py [--items N] [--factors D] [--users N] [--rate R] [--swaps N]

The load arrives by a Poisson process from one core; the server may use all. One run without a swap, then one with swaps
in it, each made once the one before is over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

from artifact import made_ids, write_artifact
from load import load

from headrace import Client
from headrace.artifacts import ArtifactStore
from headrace.v1 import recommender_pb2 as pb

PATH = "/headrace.v1.RecommenderService/Recommend"


class Server:
    """One ``headrace serve``; ``started_s`` is from exec to the line that says it serves."""

    def __init__(self, store: Path, data: Path) -> None:
        command = [sys.executable, "-m", "headrace", "serve", "--artifact", str(store), "--data", str(data)]
        began = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.started_s = time.monotonic() - began
        assert line, "the server did not start"
        self.address = line.split()[-1]

    def rss_mb(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


class Watch:
    """Within: the highest resident memory of a server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peak_mb = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def _follow(self) -> None:
        while not self._over.wait(0.02):
            self.peak_mb = max(self.peak_mb, self.server.rss_mb())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def swap_under_load(server: Server, bodies: list[bytes], rate: float, swaps: int) -> None:
    """Print a steady run and one with swaps in it."""
    steady = load(server.address, PATH, bodies, rate=rate, seconds=10.0, warm=2.0)
    before_mb = server.rss_mb()
    took: list[float] = []
    over = threading.Event()

    def swap() -> None:
        with Client(server.address) as client:
            for turn in range(swaps):
                began = time.monotonic()
                assert client.reload_artifact(f"v{2 - turn % 2}").changed
                took.append(time.monotonic() - began)
        over.set()

    thread = threading.Thread(target=swap)
    with Watch(server) as watch:
        thread.start()
        during = load(server.address, PATH, bodies, rate=rate, seconds=3.0 * swaps, warm=0.0)
        thread.join()
    print(f"swap: {median(took):.2f} s each, {swaps} of them within {3 * swaps} s of load at {rate:.0f} calls/s")
    for name, run in (("steady", steady), ("with swaps", during)):
        print(f"{name}: {run}")
    print(f"resident: {before_mb:.0f} MB before, {watch.peak_mb:.0f} MB peak, {server.rss_mb():.0f} MB after")
    print(f"resident peak / before: {watch.peak_mb / before_mb:.2f}")


def main() -> None:
    """Make two versions, start, load, swap."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--factors", type=int, default=64)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--swaps", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="keep the artifacts here, and use those that are there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = ArtifactStore((args.folder or Path(scratch)) / "artifacts")
        if not store.versions():
            ids = made_ids(args.items, args.users)
            for seed, version in enumerate(("v1", "v2")):
                write_artifact(store, version, args.items, args.factors, args.users, ids, seed)
        store.publish("v1")
        starts = []
        for turn in range(4):  # the first fills the caches of kernels and of files
            server = Server(store.root, Path(scratch) / f"data-{turn}")
            starts.append(server.started_s)
            if turn < 3:
                server.stop()
        print(f"start to ready: {median(starts[1:]):.2f} s (first: {starts[0]:.2f} s)")
        users = range(0, args.users, max(args.users // 1000, 1))
        bodies = [pb.RecommendRequest(user_id=f"u{user}", limit=20).SerializeToString() for user in users]
        swap_under_load(server, bodies, args.rate, args.swaps)
        server.stop()


if __name__ == "__main__":
    main()
