"""Callers that misbehave on a gRPC port, for the soak: raw HTTP/2 frames on plain sockets."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections import Counter, deque
from collections.abc import Callable

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE = 0, 1, 3, 4, 8
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4
CANCEL = 8

MAX_KEPT = 200
"""Connections that stay open and silent, at most; the oldest is dropped for a new one."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame (RFC 9113, section 4.1)."""
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def header_block(path: str, content_type: str = "application/grpc") -> bytes:
    """The headers of a gRPC call, each a literal without indexing (RFC 7541, section 6.2.2)."""
    pairs = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "x", "content-type": content_type}
    pairs["te"] = "trailers"
    return b"".join(b"\0" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in pairs.items())


def message(body: bytes) -> bytes:
    """A gRPC message, not compressed."""
    return b"\0" + struct.pack(">I", len(body)) + body


class Misbehaviour:
    """Does one wrong thing after another against a port, in turn and at random, until told to stop.

    path : of a method that the server has.   body : a request that it answers.
    Attribute ``done`` counts what was done, by name.
    """

    def __init__(self, address: str, path: str, body: bytes, seed: int = 1) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._path, self._body = path, body
        self._random = random.Random(seed)
        self._kept: deque[socket.socket] = deque()
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self._ways: list[Callable[[], None]] = [
            self.abort,
            self.cancel,
            self.read_nothing,
            self.say_nothing,
            self.stop_in_the_preface,
            self.truncate,
            self.announce_a_gigabyte,
            self.wrong_content_type,
            self.broken_headers,
            self.data_on_no_stream,
            self.reset_rapidly,
            self.speak_http_1,
            self.noise,
        ]

    def run(self, pause_s: float) -> None:
        """Go on until :meth:`stop`, with a pause after each."""
        while not self._stop.wait(pause_s):
            way = self._random.choice(self._ways)
            with contextlib.suppress(OSError):  # the server may well hang up on us
                way()
            self.done[way.__name__] += 1
        while self._kept:
            self._kept.popleft().close()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stop.set()

    def _open(self, settings: bytes = b"") -> socket.socket:
        connection = socket.create_connection(self._address, timeout=5)
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        return connection

    def _call(self, stream: int, content_type: str = "application/grpc") -> bytes:
        head = frame(HEADERS, END_HEADERS, stream, header_block(self._path, content_type))
        return head + frame(DATA, END_STREAM, stream, message(self._body))

    def _keep(self, connection: socket.socket) -> None:
        self._kept.append(connection)
        if len(self._kept) > MAX_KEPT:
            self._kept.popleft().close()

    def abort(self) -> None:
        """Half a request, then a reset of the connection."""
        with self._open() as connection:
            connection.sendall(self._call(1)[:-4])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def cancel(self) -> None:
        """Whole requests, each cancelled at once."""
        with self._open() as connection:
            for stream in range(1, 41, 2):
                connection.sendall(self._call(stream) + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def read_nothing(self) -> None:
        """Requests whose answers have no window to be sent in; the connection stays."""
        connection = self._open(struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
        connection.sendall(b"".join(self._call(stream) for stream in range(1, 41, 2)))
        self._keep(connection)

    def say_nothing(self) -> None:
        """A connection without a byte; it stays."""
        self._keep(socket.create_connection(self._address, timeout=5))

    def stop_in_the_preface(self) -> None:
        """Half a preface; the connection stays."""
        connection = socket.create_connection(self._address, timeout=5)
        connection.sendall(PREFACE[:11])
        self._keep(connection)

    def truncate(self) -> None:
        """A message that announces more bytes than follow before the stream ends."""
        with self._open() as connection:
            head = frame(HEADERS, END_HEADERS, 1, header_block(self._path))
            connection.sendall(head + frame(DATA, END_STREAM, 1, message(self._body)[:-1]))

    def announce_a_gigabyte(self) -> None:
        """A message's length of 1 GB."""
        with self._open() as connection:
            head = frame(HEADERS, END_HEADERS, 1, header_block(self._path))
            connection.sendall(head + frame(DATA, 0, 1, b"\0" + struct.pack(">I", 1 << 30) + bytes(100)))

    def wrong_content_type(self) -> None:
        """A call that is no gRPC."""
        with self._open() as connection:
            connection.sendall(self._call(1, "text/html"))
            connection.recv(4096)

    def broken_headers(self) -> None:
        """Bytes that no header compression makes."""
        with self._open() as connection:
            connection.sendall(frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\xff" * 20))

    def data_on_no_stream(self) -> None:
        """Data on streams that were never opened."""
        with self._open() as connection:
            connection.sendall(frame(DATA, 0, 0, b"x") + frame(DATA, 0, 99, b"x"))

    def reset_rapidly(self) -> None:
        """Streams that are opened and reset by the hundred (CVE-2023-44487)."""
        with self._open() as connection:
            block = header_block(self._path)
            for first in range(1, 1001, 200):
                connection.sendall(
                    b"".join(
                        frame(HEADERS, END_HEADERS, stream, block)
                        + frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
                        for stream in range(first, first + 200, 2)
                    )
                )

    def speak_http_1(self) -> None:
        """A request of a web browser."""
        with socket.create_connection(self._address, timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(4096)

    def noise(self) -> None:
        """Random bytes."""
        with socket.create_connection(self._address, timeout=5) as connection:
            connection.sendall(self._random.randbytes(4096))
