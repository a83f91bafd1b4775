"""Callers that misbehave, for the soak: raw HTTP/2 frames, and HTTP/1.1 by hand, on plain sockets."""

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
"""Connections to a port that stay open and silent, at most; the oldest is dropped for a new one."""


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

    Attribute ``done`` counts what was done, by name.
    """

    def __init__(self, address: str, seed: int = 1) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._random = random.Random(seed)
        self._kept: deque[socket.socket] = deque()
        self._stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.ways: list[Callable[[], None]] = [self.say_nothing, self.noise, self.hang_up]

    def run(self, pause_s: float) -> None:
        """Go on until :meth:`stop`, with a pause after each."""
        while not self._stop.wait(pause_s):
            way = self._random.choice(self.ways)
            with contextlib.suppress(OSError):  # the server may well hang up on us
                way()
            self.done[way.__name__] += 1
        while self._kept:
            self._kept.popleft().close()

    def stop(self) -> None:
        """End :meth:`run`."""
        self._stop.set()

    def _connect(self) -> socket.socket:
        return socket.create_connection(self._address, timeout=5)

    def _keep(self, connection: socket.socket) -> None:
        self._kept.append(connection)
        if len(self._kept) > MAX_KEPT:
            self._kept.popleft().close()

    def say_nothing(self) -> None:
        """A connection without a byte; it stays."""
        self._keep(self._connect())

    def noise(self) -> None:
        """Random bytes."""
        with self._connect() as connection:
            connection.sendall(self._random.randbytes(4096))

    def hang_up(self) -> None:
        """A connection that is reset at once."""
        with self._connect() as connection:
            reset_at_close(connection)


def reset_at_close(connection: socket.socket) -> None:
    """Let the connection end with a reset, whatever is still to be read."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class GrpcMisbehaviour(Misbehaviour):
    """Against a gRPC port.

    path : of a method that the server has.   body : a request that it answers.
    stream_path, stream_body : the same of a bidirectional stream.
    """

    def __init__(self, address: str, path: str, body: bytes, stream_path: str, stream_body: bytes) -> None:
        super().__init__(address)
        self._path, self._body = path, body
        self._stream_path, self._stream_body = stream_path, stream_body
        self.ways += [
            self.abort,
            self.cancel,
            self.read_nothing,
            self.stop_in_the_preface,
            self.truncate,
            self.announce_a_gigabyte,
            self.wrong_content_type,
            self.broken_headers,
            self.data_on_no_stream,
            self.reset_rapidly,
            self.speak_http_1,
            self.abort_a_stream,
            self.cancel_a_stream,
            self.read_nothing_of_a_stream,
        ]

    def _open(self, settings: bytes = b"") -> socket.socket:
        connection = self._connect()
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        return connection

    def _call(self, stream: int, content_type: str = "application/grpc") -> bytes:
        head = frame(HEADERS, END_HEADERS, stream, header_block(self._path, content_type))
        return head + frame(DATA, END_STREAM, stream, message(self._body))

    def abort(self) -> None:
        """Half a request, then a reset of the connection."""
        with self._open() as connection:
            connection.sendall(self._call(1)[:-4])
            reset_at_close(connection)

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

    def stop_in_the_preface(self) -> None:
        """Half a preface; the connection stays."""
        connection = self._connect()
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
        with self._connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.recv(4096)

    def _ask_stream(self, connection: socket.socket, n: int) -> None:
        """Open a stream and send n messages on it."""
        connection.sendall(frame(HEADERS, END_HEADERS, 1, header_block(self._stream_path)))
        connection.sendall(frame(DATA, 0, 1, message(self._stream_body)) * n)

    def abort_a_stream(self) -> None:
        """A stream in the middle of whose messages the connection is reset."""
        with self._open() as connection:
            self._ask_stream(connection, 20)
            connection.sendall(frame(DATA, 0, 1, message(self._stream_body)[:-3]))
            reset_at_close(connection)

    def cancel_a_stream(self) -> None:
        """A stream that is cancelled while its answers are on their way."""
        with self._open() as connection:
            self._ask_stream(connection, 20)
            connection.recv(4096)
            connection.sendall(frame(RST_STREAM, 0, 1, struct.pack(">I", CANCEL)))

    def read_nothing_of_a_stream(self) -> None:
        """Messages on a stream whose answers have no window to be sent in; the connection stays."""
        connection = self._open(struct.pack(">HI", INITIAL_WINDOW_SIZE, 0))
        self._ask_stream(connection, 100)
        self._keep(connection)


class HttpMisbehaviour(Misbehaviour):
    """Against a port that speaks HTTP/1.1.

    path : to which ``body`` can be posted.
    """

    def __init__(self, address: str, path: str, body: bytes) -> None:
        super().__init__(address)
        self._body = body
        self._head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
        self.ways += [
            self.stop_in_the_headers,
            self.stop_in_the_body,
            self.abort,
            self.announce_a_gigabyte,
            self.read_nothing,
            self.broken_json,
            self.speak_http_2,
            self.chunks_that_end_early,
        ]

    def _post(self, body: bytes, length: int) -> bytes:
        return self._head + f"Content-Length: {length}\r\n\r\n".encode() + body

    def stop_in_the_headers(self) -> None:
        """Half of the headers; the connection stays (slowloris)."""
        connection = self._connect()
        connection.sendall(self._head)
        self._keep(connection)

    def stop_in_the_body(self) -> None:
        """Half of the body; the connection stays."""
        connection = self._connect()
        connection.sendall(self._post(self._body[:-20], len(self._body)))
        self._keep(connection)

    def abort(self) -> None:
        """A whole request, and a reset before the answer."""
        with self._connect() as connection:
            connection.sendall(self._post(self._body, len(self._body)))
            reset_at_close(connection)

    def announce_a_gigabyte(self) -> None:
        """A body's length of 1 GB."""
        with self._connect() as connection:
            connection.sendall(self._post(self._body, 1 << 30))
            connection.recv(4096)

    def read_nothing(self) -> None:
        """Requests one behind the other whose answers nobody reads; the connection stays."""
        connection = self._connect()
        connection.sendall(self._post(self._body, len(self._body)) * 20)
        self._keep(connection)

    def broken_json(self) -> None:
        """A body that is cut."""
        with self._connect() as connection:
            connection.sendall(self._post(self._body[:-20], len(self._body) - 20))
            connection.recv(4096)

    def speak_http_2(self) -> None:
        """The preface of HTTP/2."""
        with self._connect() as connection:
            connection.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
            connection.recv(4096)

    def chunks_that_end_early(self) -> None:
        """A chunk that is shorter than it says."""
        with self._connect() as connection:
            connection.sendall(self._head + b"Transfer-Encoding: chunked\r\n\r\nff\r\nhalf")
            reset_at_close(connection)
