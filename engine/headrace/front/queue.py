"""What waits for a worker in a door written in Python: earliest deadline first, in order of arrival among equals."""

from __future__ import annotations

import heapq
import itertools
import threading
import time

from headrace.front import Call


class CallQueue:
    """Calls by ticket; adding and taking one cost O(log n), and what is taken back leaves nothing behind for long.

    keeps_late : calls past their deadline are taken too, in place of counted in ``expired`` and forgotten.
    """

    def __init__(self, *, keeps_late: bool = False) -> None:
        self._keeps_late = keeps_late
        self._changed = threading.Condition(threading.Lock())
        self._waiting: dict[object, Call] = {}
        self._order: list[tuple[float, int, object]] = []
        self._numbers = itertools.count()
        self._closed = False
        self.expired = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, call: Call) -> None:
        """Let a call wait."""
        with self._changed:
            # one wake-up for a burst: whoever wakes takes all of it, and passes on what is beyond its limit
            if not self._waiting:
                self._changed.notify()
            self._waiting[call.ticket] = call
            heapq.heappush(self._order, (call.deadline, next(self._numbers), call.ticket))

    def remove(self, ticket: object) -> bool:
        """Whether the call of that ticket waited until now."""
        with self._changed:
            found = self._waiting.pop(ticket, None) is not None
            if len(self._order) > 2 * len(self._waiting) + 64:
                self._order = [entry for entry in self._order if entry[2] in self._waiting]
                heapq.heapify(self._order)
            return found

    def take(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` that are in time; an empty list once closed and empty."""
        with self._changed:
            while True:
                batch = self._take(limit)
                if self._waiting:
                    self._changed.notify()
                if batch or self._closed:
                    return batch
                self._changed.wait()

    def _take(self, limit: int) -> list[Call]:
        batch: list[Call] = []
        now = time.monotonic()
        while self._order and len(batch) < limit:
            call = self._waiting.pop(heapq.heappop(self._order)[2], None)
            if call is None:
                continue
            if self._keeps_late or call.deadline > now:
                batch.append(call)
            else:
                self.expired += 1
        return batch

    def close(self) -> None:
        """Let every worker go once nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
