"""What arrives on a port that is open to others: every door refuses it, and answers everybody else meanwhile."""

from __future__ import annotations

import contextlib
import gzip
import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

import grpc
import pytest

from headrace.front import Reply

from .conftest import ECHO, DoorRig, code_of, wait_until

OpenDoor = Callable[..., DoorRig]

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(content_type: str = "application/grpc", *more: tuple[str, str]) -> bytes:
    """Headers of a call as literals that no table remembers."""
    pairs = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", ECHO),
        (":authority", "localhost"),
        ("content-type", content_type),
        ("te", "trailers"),
        *more,
    ]
    return b"".join(
        b"\x00" + bytes([len(part)]) + part.encode() if at == 0 else bytes([len(part)]) + part.encode()
        for pair in pairs
        for at, part in enumerate(pair)
    )


def message(body: bytes, compressed: bool = False, length: int | None = None) -> bytes:
    return struct.pack(">BI", compressed, len(body) if length is None else length) + body


class Wire:
    """A connection that speaks HTTP/2 by hand."""

    def __init__(self, rig: DoorRig, greet: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", rig.port), timeout=5)
        self.unread = b""
        if greet:
            self.send(PREFACE, frame(SETTINGS))

    def send(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def call(self, stream: int, *parts: bytes, headers: bytes | None = None) -> None:
        """Headers, then the parts as data, then the end."""
        self.send(frame(HEADERS, headers or header_block(), END_HEADERS, stream))
        for at, part in enumerate(parts):
            self.send(frame(DATA, part, END_STREAM if at == len(parts) - 1 else 0, stream))

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Kind, flags, stream and payload of what the server sends, until it closes the connection."""
        while True:
            while len(self.unread) < 9 or len(self.unread) < 9 + int.from_bytes(self.unread[:3]):
                try:
                    more = self.socket.recv(65_536)
                except ConnectionResetError:
                    return
                if not more:
                    return
                self.unread += more
            end = 9 + int.from_bytes(self.unread[:3])
            head, payload, self.unread = self.unread[:9], self.unread[9:end], self.unread[end:]
            yield head[3], head[4], int.from_bytes(head[5:9]), payload

    def ended(self, stream: int) -> str:
        """How the server ended a stream, or all of them."""
        for kind, flags, number, _ in self.frames():
            if kind == GOAWAY:
                return "goaway"
            if number == stream and (kind == RST_STREAM or flags & END_STREAM):
                return "reset" if kind == RST_STREAM else "trailers"
        return "closed"

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def rig(open_door: OpenDoor) -> DoorRig:
    return open_door(max_message_bytes=64 << 10, max_in_flight=40, max_concurrent_streams=100)


@contextlib.contextmanager
def wire(rig: DoorRig, greet: bool = True) -> Iterator[Wire]:
    """A hand-made connection; whatever happens on it, other calls are answered and nothing stays in flight."""
    connection = Wire(rig, greet)
    try:
        yield connection
        assert rig.call(b"still").result() == b"still"
    finally:
        connection.close()
    assert rig.call(b"after").result() == b"after"
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)


STATS = {
    "accepted",
    "refused_overload",
    "expired_waiting",
    "cancelled_waiting",
    "dropped_replies",
    "malformed",
    "unknown_methods",
    "in_flight",
    "open_streams",
    "waiting",
}


def test_what_a_door_tells_of_calls_has_the_same_names_and_adds_up(rig: DoorRig) -> None:
    assert rig.door.stats() == dict.fromkeys(STATS, 0)
    first = rig.occupy()
    second = rig.call(b"second")
    wait_until(lambda: rig.door.stats()["waiting"] == 1)
    assert rig.door.stats() == dict.fromkeys(STATS, 0) | {"accepted": 2, "in_flight": 2, "waiting": 1}
    with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
        rig.call(method="/headrace.v1.NewService/New").result()
    rig.free.set()
    assert (first.result(), second.result()) == (b"first", b"second")
    wait_until(lambda: rig.door.stats()["in_flight"] == 0)
    assert rig.door.stats() == dict.fromkeys(STATS, 0) | {"accepted": 2, "unknown_methods": 1}


def test_hand_made_call_is_answered(rig: DoorRig) -> None:
    with wire(rig) as connection:
        connection.call(1, message(b"hello"))
        assert connection.ended(1) == "trailers"
    assert b"hello" in rig.seen()


def test_rapid_reset_costs_no_worker_and_leaves_nothing(rig: DoorRig) -> None:
    rig.free.clear()
    first = rig.call(b"first")
    assert rig.busy.wait(5)
    connection = Wire(rig)
    with contextlib.suppress(ConnectionError):  # the door may hang up on such a client
        for number in range(1, 4001, 2):
            connection.send(
                frame(HEADERS, header_block(), END_HEADERS, number),
                frame(DATA, message(b"rapid"), END_STREAM, number),
                frame(RST_STREAM, struct.pack(">I", 8), stream=number),
            )
    rig.settle()
    wait_until(lambda: rig.door.stats()["in_flight"] == 1)
    assert rig.door.stats()["waiting"] == 0
    rig.free.set()
    assert first.result() == b"first"
    assert rig.call(b"after").result() == b"after"
    assert rig.seen().count(b"rapid") < 200
    connection.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /headrace.v1.RecommenderService/Recommend HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        bytes(range(256)) * 64,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        PREFACE + bytes(range(256)) * 64,
    ],
    ids=["http1-get", "http1-post", "noise", "tls-hello", "noise-after-preface"],
)
def test_what_is_no_http2_is_hung_up_on(rig: DoorRig, garbage: bytes) -> None:
    with wire(rig, greet=False) as connection:
        connection.send(garbage)
        assert connection.ended(1) in {"goaway", "closed"}
    assert set(rig.seen()) == {b"still", b"after"}


def test_truncated_frames_do_not_hold_anything_up(rig: DoorRig) -> None:
    for cut in (3, 9, 30):
        with wire(rig) as connection:
            connection.send(frame(HEADERS, header_block(), END_HEADERS, 1)[:cut])
    with wire(rig) as connection:
        connection.send(frame(HEADERS, header_block(), END_HEADERS, 1))
        connection.send(frame(DATA, message(b"half a message", length=1000), 0, 1))
    assert set(rig.seen()) == {b"still", b"after"}


def test_message_that_ends_early_is_refused(rig: DoorRig) -> None:
    with wire(rig) as connection:
        connection.call(1, message(b"short", length=1000))
        assert connection.ended(1) in {"trailers", "reset"}
    assert set(rig.seen()) == {b"still", b"after"}


def test_call_without_a_message_is_refused(rig: DoorRig) -> None:
    with wire(rig) as connection:
        connection.send(frame(HEADERS, header_block(), END_HEADERS | END_STREAM, 1))
        assert connection.ended(1) in {"trailers", "reset"}
    assert set(rig.seen()) == {b"still", b"after"}


def test_a_gigabyte_announced_is_cut_off_long_before_it_came(open_door: OpenDoor) -> None:
    rig = open_door(max_message_bytes=64 << 10, max_buffer_bytes=64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with wire(rig) as connection:
        connection.send(frame(SETTINGS, flags=ACK), frame(HEADERS, header_block(), END_HEADERS, 1))
        connection.send(frame(DATA, message(bytes(60_000 - 5), length=1 << 30), 0, 1))
        granted, sent = dict.fromkeys((0, 1), 65_535), 60_000
        # a client that keeps to the windows it is given, as an honest one would
        for kind, flags, number, payload in connection.frames():
            if number == 1 and kind in (HEADERS, RST_STREAM):
                break
            if kind == PING and not flags & ACK:
                connection.send(frame(PING, payload, ACK))
            if kind == WINDOW_UPDATE:
                granted[number] += int.from_bytes(payload)
            while min(granted.values()) - sent >= 16_000:
                connection.send(frame(DATA, bytes(16_000), 0, 1))
                sent += 16_000
            assert sent < 128 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 128 << 10
    assert set(rig.seen()) == {b"still", b"after"}


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "application/octet-stream"])
def test_wrong_content_type_disturbs_nobody(rig: DoorRig, content_type: str) -> None:
    with wire(rig) as connection:
        connection.call(1, message(b"hello"), headers=header_block(content_type))
        assert connection.ended(1) in {"trailers", "reset"}


def test_frames_beyond_the_largest_are_refused(rig: DoorRig) -> None:
    with wire(rig) as connection:
        connection.send(struct.pack(">I", (1 << 24) - 1)[1:] + bytes([DATA, 0]) + struct.pack(">I", 1))
        assert connection.ended(1) in {"goaway", "closed"}


def test_headers_beyond_the_cap_are_refused(open_door: OpenDoor) -> None:
    rig = open_door(max_metadata_bytes=4096)
    # gRPC 1.51 may hang up on such a client, so it has a connection of its own
    with grpc.insecure_channel(rig.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(ECHO).future(b"big", metadata=[("big", "x" * 20_000)], timeout=10)
        assert code_of(call) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rig.call().result() == b"x"
    assert rig.seen() == [b"x"]


def test_a_flood_of_pings_is_hung_up_on(open_door: OpenDoor) -> None:
    rig = open_door(max_ping_strikes=2)
    with wire(rig) as connection:
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                connection.send(frame(PING, bytes(8)))
        assert connection.ended(1) in {"goaway", "closed"}


def test_half_open_connections_are_closed_though_no_call_is_open(open_door: OpenDoor) -> None:
    rig = open_door(keepalive_s=1, keepalive_timeout_s=1)
    with contextlib.closing(Wire(rig)) as connection:
        connection.send(frame(SETTINGS, flags=ACK))
        assert connection.ended(1) in {"goaway", "closed"}  # the peer that answers no ping is given up
        assert connection.ended(1) == "closed"
    assert rig.call(b"after").result() == b"after"


def test_streams_beyond_the_cap_of_a_connection_wait_or_are_refused(open_door: OpenDoor) -> None:
    rig = open_door(max_concurrent_streams=4)
    first = rig.occupy()
    with contextlib.closing(Wire(rig)) as connection:
        connection.send(frame(SETTINGS, flags=ACK))  # the client acknowledges the cap
        with contextlib.suppress(ConnectionError):
            for number in range(1, 41, 2):
                connection.call(number, message(b"many"))
        rig.settle()
        assert rig.door.stats()["waiting"] <= 4
        rig.free.set()
        assert first.result() == b"first"


def test_deadline_in_the_past_reaches_no_worker(rig: DoorRig) -> None:
    assert code_of(rig.call(timeout=-1)) == grpc.StatusCode.DEADLINE_EXCEEDED
    with wire(rig) as connection:
        connection.call(1, message(b"late"), headers=header_block("application/grpc", ("grpc-timeout", "0n")))
        assert connection.ended(1) in {"trailers", "reset"}
    assert set(rig.seen()) == {b"still", b"after"}


GZIP = ("grpc-encoding", "gzip")


def test_compressed_requests_are_read(rig: DoorRig) -> None:
    body = b"compress me " * 1000
    assert rig.call(body, compression=grpc.Compression.Gzip).result() == body
    with wire(rig) as connection:
        connection.call(1, message(gzip.compress(b"by hand"), True), headers=header_block("application/grpc", GZIP))
        assert connection.ended(1) == "trailers"
    assert b"by hand" in rig.seen()


def test_gzip_bomb_is_refused_without_inflating_it(rig: DoorRig) -> None:
    squeezer = zlib.compressobj(9, wbits=31)
    bomb = squeezer.compress(bytes(48 << 20)) + squeezer.flush()
    assert len(bomb) < 64 << 10
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with wire(rig) as connection:
        pieces = [message(bomb, True)[at : at + 16_000] for at in range(0, len(bomb) + 5, 16_000)]
        connection.call(1, *pieces, headers=header_block("application/grpc", GZIP))
        assert connection.ended(1) in {"trailers", "reset"}
    assert rig.door.stats()["malformed"] == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 24 << 10
    big = rig.call(bytes(2 << 20), compression=grpc.Compression.Gzip)
    assert code_of(big) == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(rig.seen()) == {b"still", b"after"}


@pytest.mark.parametrize("damage", [b"\x1f\x8bnonsense", gzip.compress(b"cut off" * 100)[:-6]], ids=["noise", "cut"])
def test_broken_gzip_is_refused(rig: DoorRig, damage: bytes) -> None:
    with wire(rig) as connection:
        connection.call(1, message(damage, True), headers=header_block("application/grpc", GZIP))
        assert connection.ended(1) in {"trailers", "reset"}
    assert rig.door.stats()["malformed"] == 1
    assert set(rig.seen()) == {b"still", b"after"}


def test_large_answers_are_compressed_for_who_takes_it_where_the_settings_say_so(open_door: OpenDoor) -> None:
    rig = open_door(compress_above_bytes=1000)
    rig.answer = lambda call: Reply(bytes(50_000) if call.body == b"large" else bytes(900))
    for accepts, body, most in (("gzip", b"large", 5_000), ("identity", b"large", 60_000), ("gzip", b"small", 2_000)):
        connection = Wire(rig)
        headers = header_block("application/grpc", ("grpc-accept-encoding", accepts))
        connection.call(1, message(body), headers=headers)
        received = []
        for kind, flags, number, payload in connection.frames():
            if kind == DATA:
                received.append(payload)
            if number == 1 and flags & END_STREAM:
                break
        answer = b"".join(received)
        assert len(answer) < most
        assert answer[0] == (accepts == "gzip" and body == b"large")
        connection.close()
    assert rig.call(b"large").result() == bytes(50_000)


def lowest_free_file() -> int:
    number = os.dup(0)
    os.close(number)
    return number


IDLE = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = [socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5) for _ in range(10_000)]
print("open", flush=True)
sys.stdin.read()
"""


def test_ten_thousand_idle_connections_disturb_nobody(open_door: OpenDoor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < len(os.listdir("/proc/self/fd")) + 10_500:
        assert "CI" not in os.environ, f"ulimit -Hn is {hard}, too few for the test"
        pytest.skip(f"ulimit -Hn is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rig = open_door()
    # the other ends are in another process, which may have as many
    command = [sys.executable, "-c", IDLE, str(rig.port)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
            assert idle.stdout is not None
            assert idle.stdout.readline() == b"open\n"
            assert rig.call(b"still").result() == b"still"
            with wire(rig) as connection:
                connection.call(1, message(b"new"))
                assert connection.ended(1) == "trailers"
            wait_until(lambda: lowest_free_file() > 10_000, 30)  # all have been accepted
            idle.communicate()
        assert rig.call(b"after").result() == b"after"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
