"""What time it is: the system's, or that of the requests when a past day is replayed."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Called: now, ms since 1970 UTC."""

    def __call__(self) -> int: ...

    def see(self, time_ms: int) -> None:
        """A request says that it is this time."""


class SystemClock:
    """The machine's own; what requests say does not move it."""

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000

    def see(self, time_ms: int) -> None:
        pass


class RequestClock:
    """The latest time that any request named, never earlier than ``start_ms``; stands still between requests."""

    def __init__(self, start_ms: int) -> None:
        self._now_ms = start_ms
        self._lock = threading.Lock()

    def __call__(self) -> int:
        return self._now_ms

    def see(self, time_ms: int) -> None:
        with self._lock:
            self._now_ms = max(self._now_ms, time_ms)
