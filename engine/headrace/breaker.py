"""A circuit breaker: asks an external part that keeps failing only now and then, and fails at once meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal


class Breaker:
    """Closed while a part works, open once most of what was asked of it failed; then one probe at a time gets through.

    least : failures within the window below which it stays closed.
    share : part of the outcomes within the window that must have failed.
    window_s : seconds that are looked back on, between one and two times so many.
    open_s : seconds between the opening and the first probe; doubles with each probe that fails, up to ``longest_s``.
    clock : seconds that never jump.

    Whoever asks the part reports what came of it, whether it asked the breaker first or not: any success closes it.
    A probe that never reports is followed by another one. Thread-safe.
    """

    def __init__(
        self,
        *,
        least: int = 5,
        share: float = 0.5,
        window_s: float = 10.0,
        open_s: float = 1.0,
        longest_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._least = least
        self._share = share
        self._window_s = window_s
        self._first_open_s = self._open_s = open_s
        self._longest_s = longest_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = self._failed_before = self._asked = self._asked_before = 0
        self._window_end = clock() + window_s
        self._open = self._probing = False
        self._probe_at = 0.0
        self.n_opened = 0
        """Times that it opened."""

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """``half-open`` while the outcome of a probe is awaited."""
        if not self._open:
            return "closed"
        return "half-open" if self._probing else "open"

    def wait_s(self) -> float:
        """Seconds until the part may be asked; 0: now. While open, whoever gets the 0 is the probe."""
        if not self._open:
            return 0.0
        with self._lock:
            now = self._clock()
            if not self._open:
                return 0.0
            if now < self._probe_at:
                return self._probe_at - now
            self._probing = True
            self._probe_at = now + self._open_s
            return 0.0

    def succeeded(self) -> None:
        """The part did what it was asked."""
        with self._lock:
            if self._open:
                self._open = self._probing = False
                self._open_s = self._first_open_s
                self._failed = self._failed_before = self._asked = self._asked_before = 0
            self._move_window()
            self._asked += 1

    def failed(self) -> None:
        """The part did not do what it was asked."""
        with self._lock:
            self._move_window()
            self._asked += 1
            self._failed += 1
            if self._open:
                if self._probing:
                    self._probing = False
                    self._open_s = min(self._open_s * 2, self._longest_s)
                    self._probe_at = self._clock() + self._open_s
                return
            failed, asked = self._failed + self._failed_before, self._asked + self._asked_before
            if failed >= self._least and failed >= self._share * asked:
                self._open = True
                self._probe_at = self._clock() + self._open_s
                self.n_opened += 1

    def _move_window(self) -> None:
        now = self._clock()
        if now < self._window_end:
            return
        fresh = now < self._window_end + self._window_s
        self._failed_before, self._asked_before = (self._failed, self._asked) if fresh else (0, 0)
        self._failed = self._asked = 0
        self._window_end = now + self._window_s
