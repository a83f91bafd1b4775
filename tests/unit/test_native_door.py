"""The native door in one process with the libraries that bring a gRPC, an OpenMP or a compiler of their own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import {imports}
import threading
import grpc
from headrace.front import DoorConfig, Reply, make_door

door = make_door("native", ["/a.B/C"], "127.0.0.1:0", DoorConfig())
address = door.start()

def work():
    while batch := door.next_batch(8):
        door.reply(batch, [Reply(call.body) for call in batch])

worker = threading.Thread(target=work)
worker.start()
with grpc.insecure_channel(address) as channel:
    print(channel.unary_unary("/a.B/C")(b"hello", timeout=20).decode())
door.drain(5)
worker.join()
"""

DRAINS = int(os.environ.get("HEADRACE_DRAIN_RUNS", "40"))
DRAIN = """
import os, random, threading
import grpc
from headrace.front import DoorConfig, Reply, make_door

os.sched_getaffinity = lambda _: range(8)  # several threads of the door's own, whatever the machine has
CALL, STREAM = "/a.B/C", "/a.B/S"
rng = random.Random(7)

def answer(door):
    while batch := door.next_batch(64):
        door.reply(batch, [Reply(call.body) for call in batch])

def ask(channel, over):
    while not over.is_set():
        try:
            calls = [channel.unary_unary(CALL).future(b"x", timeout=0.05) for _ in range(16)]
            for call in calls[:: rng.choice((2, 16))]:
                call.cancel()
            for call in calls:
                call.exception()
        except (ValueError, grpc.FutureCancelledError):
            pass

def stream(channel, over):
    while not over.is_set():
        try:
            for _ in channel.stream_stream(STREAM)(iter([b"m"] * 20), timeout=0.1):
                if rng.random() < 0.02:
                    break
        except (ValueError, grpc.RpcError):
            pass

for _ in range({runs}):
    door = make_door("native", [CALL], "127.0.0.1:0", DoorConfig(), streams=[STREAM])
    channel, over = grpc.insecure_channel(door.start()), threading.Event()
    workers = [threading.Thread(target=answer, args=(door,)) for _ in range(4)]
    callers = [threading.Thread(target=each, args=(channel, over)) for each in (ask, stream)]
    for thread in (*workers, *callers):
        thread.start()
    over.wait(rng.random() * 0.05)
    door.drain(rng.choice((0, 0.001)))
    over.set()
    channel.close()
    for thread in (*workers, *callers):
        thread.join()
print("drained")
"""


@pytest.fixture(autouse=True)
def _built() -> None:
    if "CI" not in os.environ and importlib.util.find_spec("headrace._door") is None:
        pytest.skip("the native door is not built here")


@pytest.mark.parametrize(
    "imports",
    ["headrace._door, grpc", "grpc, headrace._door", "headrace._door, faiss, numba, pyarrow, implicit, grpc"],
)
def test_it_lives_beside_grpcio_and_the_others_in_any_order(imports: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(imports=imports)],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


FLOOD = """
import socket, struct, sys
sys.path.insert(0, {tests!r})
from contract.test_door_abuse import END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, header_block
from headrace.front import DoorConfig, make_door

door = make_door("native", ["/a.B/C"], "127.0.0.1:0", DoorConfig())
host, _, port = door.start().rpartition(":")
for _ in range(50):
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(PREFACE + frame(SETTINGS) + frame(HEADERS, header_block("text/html"), END_HEADERS, 1))
        answer = b""
        while frame(HEADERS, b"", 0, 1)[3:4] not in answer[12:]:
            answer += connection.recv(4096)
door.drain(5)
"""


def test_malformed_calls_cannot_fill_the_log() -> None:
    script = FLOOD.format(tests=str(Path(__file__).parents[1]))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 10
    assert all(line.startswith("gRPC: ") for line in lines)


def test_what_needs_no_door_does_not_load_it() -> None:
    script = "import sys, headrace, headrace.front, headrace._native; print('headrace._door' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_drain_that_gives_up_on_calls_just_being_answered_ends_nothing_but_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", DRAIN.replace("{runs}", str(DRAINS))],
        capture_output=True,
        text=True,
        timeout=60 + DRAINS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "drained\n"), done.stderr
