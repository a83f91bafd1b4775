"""One bidirectional stream of the grpcio door: a thread of its own reads it, grpcio's thread writes the answers."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import grpc

from headrace.front import Call, Reply

LEAVING = "UnavailableError: the server is shutting down"
_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.value[0]


class Stream:
    """Messages in, answers out in any order; it reads no further while ``limit`` messages have no answer written.

    receive : makes a call of a message's bytes and its ticket, and lets it wait.
    forget : takes a call that nobody waits for any more out of the queue.
    lose : is told of answers that were never written.
    status, text : how the stream ended, once :meth:`answers` has.
    """

    def __init__(
        self,
        receive: Callable[[bytes, object], Call],
        forget: Callable[[Call], None],
        lose: Callable[[Sequence[bytes]], None],
        limit: int,
    ) -> None:
        self.status, self.text = 0, ""
        self._receive, self._forget, self._lose, self._limit = receive, forget, lose, limit
        self._changed = threading.Condition()
        self._open: dict[_Message, Call | None] = {}
        self._answers: deque[bytes] = deque()
        self._unwritten = 0
        self._all_read = self._ended = False

    def answers(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        """The answers as they come, until the stream ends."""
        threading.Thread(target=self._read, args=(requests,), name="headrace-stream", daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._answers or self._over())
                if not self._answers:
                    return
                body = self._answers.popleft()
            yield body
            with self._changed:
                self._unwritten -= 1
                self._changed.notify_all()

    def settle(self, message: _Message, reply: Reply | None) -> bool:
        """Whether the answer to a message is on its way."""
        with self._changed:
            self._open.pop(message, None)
            if message.settled or self._ended:
                return False
            message.settled = True
            if reply is None:
                self._unwritten -= 1
            elif reply.status:
                self.status, self.text, self._ended = reply.status, reply.message, True
            else:
                self._answers.append(reply.body)
            self._changed.notify_all()
            return reply is not None

    def leave(self) -> None:
        """Read no more; end once what was read is answered."""
        with self._changed:
            if not self._all_read:
                self._all_read = True
                self.status, self.text = _UNAVAILABLE, LEAVING
            self._changed.notify_all()

    def abandon(self) -> None:
        """The stream is over; nobody waits for answers any more."""
        with self._changed:
            self._ended = True
            left = [call for call in self._open.values() if call is not None]
            unwritten = list(self._answers)
            self._answers.clear()
            self._changed.notify_all()
        for call in left:
            self._forget(call)
        if unwritten:
            self._lose(unwritten)

    def _over(self) -> bool:
        return self._ended or (self._all_read and not self._unwritten)

    def _read(self, requests: Iterator[bytes]) -> None:
        try:
            while self._may_read():
                body = next(requests, None)
                if body is None:
                    break
                self._take(body)
        except Exception:  # the caller has gone, or the message was refused: grpcio says which
            self.abandon()
        with self._changed:
            self._all_read = True
            self._changed.notify_all()

    def _may_read(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._unwritten < self._limit or self._all_read or self._ended)
            return not (self._all_read or self._ended)

    def _take(self, body: bytes) -> None:
        message = _Message(self)
        with self._changed:
            self._unwritten += 1
            self._open[message] = None
        call = self._receive(body, message)
        with self._changed:
            if message in self._open:
                self._open[message] = call
            gone = self._ended
        if gone:
            self._forget(call)


class _Message:
    """The ticket of one message."""

    __slots__ = ("_stream", "settled")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.settled = False

    def settle(self, reply: Reply | None) -> bool:
        return self._stream.settle(self, reply)
