"""How often each caller may ask."""

from __future__ import annotations

import threading


class TokenBuckets:
    """One token bucket a caller: a request takes a token, and ``rate`` of them come back each second, up to ``burst``.

    A call of more requests than the bucket holds is let in when that is full, and what it takes too much is paid off.

    Callers are those that the server's keys and certificates name, so their number is bounded. Thread-safe.
    """

    def __init__(self) -> None:
        self._buckets: dict[object, tuple[float, float]] = {}  # tokens left, and when
        self._lock = threading.Lock()

    def take(self, caller: object, now: float, rate: float, burst: float, n: int = 1) -> float:
        """Seconds until the caller may ask for n; 0: now, and n tokens are taken.

        now : on the clock of ``time.monotonic()``. rate : requests a second, > 0. burst : requests at once, >= 1.
        """
        with self._lock:
            tokens, then = self._buckets.get(caller, (burst, now))
            tokens = min(tokens + max(now - then, 0.0) * rate, burst)
            needed = min(n, burst)
            if tokens < needed:
                self._buckets[caller] = tokens, now
                return (needed - tokens) / rate
            self._buckets[caller] = tokens - n, now
            return 0.0
