"""How often each caller may ask."""

from __future__ import annotations

import threading


class TokenBuckets:
    """One token bucket a caller: a call takes a token, and ``rate`` of them come back each second, up to ``burst``.

    Callers are those that the server's keys and certificates name, so their number is bounded. Thread-safe.
    """

    def __init__(self) -> None:
        self._buckets: dict[object, tuple[float, float]] = {}  # tokens left, and when
        self._lock = threading.Lock()

    def take(self, caller: object, now: float, rate: float, burst: float) -> float:
        """Seconds until the caller may ask again; 0: now, and a token is taken.

        now : on the clock of ``time.monotonic()``. rate : calls a second, > 0. burst : calls at once, >= 1.
        """
        with self._lock:
            tokens, then = self._buckets.get(caller, (burst, now))
            tokens = min(tokens + max(now - then, 0.0) * rate, burst)
            if tokens < 1.0:
                self._buckets[caller] = tokens, now
                return (1.0 - tokens) / rate
            self._buckets[caller] = tokens - 1.0, now
            return 0.0
