"""OpenRTB over HTTP: `headrace serve` on one core and wrk on another, with 1,000 line items; peers in the same run.

    python benchmarks/bench_openrtb.py [--seconds 5] [--rounds 3] [--connections 64]

Every request is a typical one of 1.6 KB. First each answer is checked: that of Headrace is a bid of the line items that
match, those of the peers the constant that they give. CPU is the kernel's account of the server's process, all threads;
the handler's own is that of its thread, by batch, in process. The peers decode with the standard library's json and
answer a constant of the same size; they bid nothing, so what Headrace adds to them is the auction.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from artifact import publish
from load import LOAD_CORE, Process
from served import FEW, MANY, fund, people, serving

N_USERS, N_ITEMS, N_ASKING = 20_000, 20_000, 500
WRK = """
local bodies, at = {}, 0
for line in io.lines("%s") do bodies[#bodies + 1] = line end
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["x-openrtb-version"] = "2.6"
request = function() at = at %% #bodies + 1; return wrk.format(nil, nil, nil, bodies[at]) end
done = function(summary, latency, requests)
  local wrong = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RESULT %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration, latency:percentile(50),
    latency:percentile(99), wrong))
end
"""


def bid_request(number: int, user: str, country: str) -> dict[str, Any]:
    """A display request as exchanges send them; most of it nobody reads."""
    banner = {"w": 300, "h": 250, "pos": 1, "battr": [1, 3, 5], "format": [{"w": 300, "h": 250}, {"w": 300, "h": 600}]}
    impression = {"id": "1", "banner": banner, "tagid": "homepage-top", "bidfloor": 0.00015, "bidfloorcur": "USD"}
    page = {"id": "s1", "domain": "news.example.com", "page": "https://news.example.com/world/a-long-article-name.html"}
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
    place = {"lat": 52.52, "lon": 13.4, "type": 2, "city": "Berlin", "zip": "10115", "country": country}
    segments = [{"id": str(n), "name": f"interest-{n}", "value": "1"} for n in range(6)]
    nodes = [{"asi": "exchange.example.com", "sid": f"pub-{n}", "rid": f"r-{number}", "hp": 1} for n in range(2)]
    return {
        "id": f"auction-{number:012d}",
        "imp": [impression | {"secure": 1, "ext": {"gpid": "/1234/homepage#top"}}],
        "site": page | {"cat": ["IAB12", "IAB12-1"], "publisher": {"id": "p1", "name": "A Publisher"}},
        "device": {"ua": agent, "ip": "203.0.113.7", "geo": place, "language": "de", "os": "Linux", "devicetype": 2},
        "user": {"id": f"x-{user}", "buyeruid": user, "data": [{"id": "d1", "name": "dmp", "segment": segments}]},
        "at": 1,
        "tmax": 200,
        "cur": ["USD"],
        "bcat": ["IAB25", "IAB26", "IAB7-39", "IAB8-5"],
        "badv": ["competitor.example.com"],
        "source": {"tid": f"t-{number}", "fd": 0, "schain": {"complete": 1, "ver": "1.0", "nodes": nodes}},
        "regs": {"coppa": 0, "gdpr": 0, "us_privacy": "1YNN"},
    }


def requests(country: str, n: int = 4096) -> list[bytes]:
    """Bodies, each on a line of its own."""
    return [json.dumps(bid_request(i, user, country)).encode() for i, user in enumerate(people(n, N_ASKING))]


def ask(address: str, body: bytes) -> bytes:
    """The answer to one request; fails where there is none."""
    request = Request(f"http://{address}/openrtb2/bid", body, {"content-type": "application/json"})
    with urlopen(request, timeout=10) as response:
        answer: bytes = response.read()
        assert answer, (response.status, response.headers["x-openrtb-nbr"])
    return answer


def check(address: str, bodies: list[bytes], matched: int | None) -> bytes:
    """Every answer is a bid above its floor, over HTTP as over gRPC; returns one of them."""
    answer = b""
    for body in bodies[:64]:
        answer = ask(address, body)
        if matched is not None:
            (bid,) = json.loads(answer)["seatbid"][0]["bid"]
            assert bid["price"] >= 0.00015
            assert (bid["impid"], bid["cid"]) == ("1", "c")
    return answer


def wrk(address: str, bodies: list[bytes], seconds: int, connections: int) -> dict[str, float]:
    """What wrk saw from the load's core; fails on any answer that is an error."""
    with tempfile.TemporaryDirectory() as folder:
        lines, script = Path(folder) / "bodies", Path(folder) / "post.lua"
        lines.write_bytes(b"\n".join(bodies))
        script.write_text(WRK % lines)
        command = [
            "taskset",
            "-c",
            str(LOAD_CORE),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "-s",
            str(script),
        ]
        output = subprocess.run(
            [*command, f"http://{address}/openrtb2/bid"], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found is not None, output
    n, took_us, p50, p99, wrong = (int(text) for text in found.groups())
    assert wrong == 0, output
    return {"n": n, "per_s": n / took_us * 1e6, "p50_us": p50, "p99_us": p99}


class Row:
    """One contender and what was measured of it."""

    def __init__(self, name: str, server: Process, address: str, bodies: list[bytes]) -> None:
        self.name, self.server, self.address, self.bodies = name, server, address, bodies
        self.rates: list[float] = []
        self.cpu_us: list[float] = []
        self.p50_us: list[float] = []
        self.p99_us: list[float] = []

    def measure(self, seconds: int, connections: int) -> None:
        before = self.server.cpu_s()
        seen = wrk(self.address, self.bodies, seconds, connections)
        self.cpu_us.append((self.server.cpu_s() - before) / seen["n"] * 1e6)
        self.rates.append(seen["per_s"])
        self.p50_us.append(seen["p50_us"])
        self.p99_us.append(seen["p99_us"])

    def line(self) -> str:
        middle = [statistics.median(values) for values in (self.cpu_us, self.rates, self.p50_us, self.p99_us)]
        spread = f"{min(self.rates):.0f}..{max(self.rates):.0f}"
        return f"{self.name:44}{middle[0]:9.1f}{middle[1]:11.0f} {spread:>15}{middle[2]:9.0f}{middle[3]:9.0f}"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def headrace(folder: Path) -> Iterator[tuple[Process, str]]:
    address = f"127.0.0.1:{free_port()}"
    with serving(folder, HEADRACE_HTTP_LISTEN=address, HEADRACE_SERVER_WORKERS="1") as server:
        fund(server.address)
        yield server, address


@contextmanager
def peer(kind: str, answer: bytes) -> Iterator[tuple[Process, str]]:
    with tempfile.NamedTemporaryFile() as file:
        file.write(answer)
        file.flush()
        with Process.python(__file__, "--peer", kind, "--answer", file.name) as server:
            yield server, server.address


def serve_peer(kind: str, answer: bytes) -> None:
    """A server that decodes with the standard library and answers a constant."""
    port = free_port()
    headers = [("content-type", "application/json"), ("x-openrtb-version", "2.6")]

    async def rsgi(scope: Any, proto: Any) -> None:
        assert json.loads(await proto())["id"]
        proto.response_bytes(200, headers, answer)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        assert json.loads(body)["id"]
        raw = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        await send({"type": "http.response.body", "body": answer})

    async def run() -> None:
        if kind == "granian":
            from granian.server.embed import Server

            server: Any = Server(rsgi, port=port, log_enabled=False)
        else:
            import uvicorn

            server = uvicorn.Server(uvicorn.Config(asgi, port=port, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve())
        while True:
            await asyncio.sleep(0.05)
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
        print(f"on 127.0.0.1:{port}", flush=True)
        await task

    asyncio.run(run())


def handler_rows(rounds: int) -> None:
    """CPU of the handler alone, JSON to JSON, by batch."""
    import numpy as np
    from bench_bid import NOW_MS, Stack

    from headrace.front import Call
    from headrace.service.openrtb import BID_PATH, OpenRtbService

    print(f"\n{'handler, JSON to JSON, CPU us a request':44}{'median':>9}{'min':>11}{'max':>16}")
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="bench-openrtb-") as folder:
        stack = Stack(Path(folder) / "stack", 10)
        service = OpenRtbService(stack.engine, lambda: NOW_MS, "https://bid.example.com/openrtb2", expires_s=3600)
        calls = []
        for number in range(2_000):
            asked = bid_request(number, f"u{rng.integers(500)}", "DEU")
            asked["site"]["cat"] = [f"c{rng.integers(100)}", "IAB12-1"]
            asked["imp"][0]["bidfloor"] = 0.001
            metadata = {"content-type": "application/json", "x-openrtb-version": "2.6"}
            calls.append(Call(BID_PATH, json.dumps(asked).encode(), float("inf"), "", metadata, None))
        n_bids = sum(bool(reply.body) for reply in service.bid(calls[:64]))  # type: ignore[union-attr]
        assert n_bids == 64, n_bids
        for batch in (1, 8, 32):
            taken = []
            for _ in range(rounds):
                start = time.thread_time_ns()
                for first in range(0, len(calls), batch):
                    service.bid(calls[first : first + batch])
                taken.append((time.thread_time_ns() - start) / len(calls) / 1000)
            middle = statistics.median(taken)
            print(f"{f'10 of 1,000 match, batch {batch}':44}{middle:9.1f}{min(taken):11.1f}{max(taken):16.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--peer", default="", help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        serve_peer(options.peer, options.answer.read_bytes())
        return
    peers = [kind for kind in ("granian", "uvicorn") if find_spec(kind)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("msgspec", *peers))
    few, many = requests(FEW), requests(MANY)
    size = statistics.mean(len(body) for body in few)
    print(
        f"CPython {sys.version.split()[0]}, {versions}; requests of {size:.0f} bytes, {options.connections} connections"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-openrtb-")))
        publish(folder / "artifacts", N_USERS, N_ITEMS)
        server, address = stack.enter_context(headrace(folder))
        answer = check(address, few, 10)
        check(address, many, 64)
        rows = [
            Row("Headrace, 10 of 1,000 line items match", server, address, few),
            Row("Headrace, 64 of 1,000 line items match", server, address, many),
        ]
        for kind in peers:
            process, where = stack.enter_context(peer(kind, answer))
            assert check(where, few, None) == answer
            rows.append(Row(f"{kind}, stdlib json, a constant", process, where, few))
        for row in rows:  # what is read and remembered at first is not what is measured
            wrk(row.address, row.bodies, 2, options.connections)
        for _ in range(options.rounds):
            for row in rows:
                row.measure(options.seconds, options.connections)
        print(f"\n{'':44}{'CPU us':>9}{'requests/s':>11} {'min..max':>15}{'p50 us':>9}{'p99 us':>9}")
        for row in rows:
            print(row.line())
    handler_rows(options.rounds)


if __name__ == "__main__":
    main()
