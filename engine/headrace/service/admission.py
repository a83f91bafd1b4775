"""Which calls there is time and room for.

A call is refused, or answered the cheap way (``Method.shed``), for one of these reasons, looked at in this order:

- its deadline has passed (DeadlineError);
- its caller asks more often than it may: a token bucket for each (RateLimitError);
- it waited longer than its kind may while the queue has stood for an interval: then the server is asked for more than
  it can do, and what is answered late helps nobody (OverloadedError). The patience differs by kind, so that what loses
  least is cut first: slates fall back to popular items, then bids become no-bids, then reads and at last writes wait in
  vain;
- what is left of its deadline is less than what it would take, the calls before it included (DeadlineError).

Only ``time.monotonic()`` counts here; the machine's date may jump.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from headrace.errors import DeadlineError, HeadraceError, OverloadedError, RateLimitError
from headrace.front import Call
from headrace.service.access import Principal
from headrace.service.cost import Cost
from headrace.service.rates import TokenBuckets
from headrace.service.settings import AdmissionConfig

PROBE_S = 0.1
"""A method of which nothing was answered for so long gets one call through, whatever its estimate says: an estimate
that refuses everything would never be corrected."""

FADING = 0.9
"""What a batch keeps of its weight, with each that follows, in the mean cost of a call and the share that is let in."""

MOST_LET_IN, LEAST_SHARE = 0.9, 1 / 64
"""Shares of calls let in: from one down to the other ever more are taken at once."""

ROOM_TARGETS, LEAST_ROOM, ROOM_EVERY_S = 2.0, 256, 0.05
"""While calls stand, so many may wait as are taken within so many times the target, but this many at least; measured
so often, seconds."""

UNBOUNDED = 1 << 40

WAITING_SHARE = 0.4
"""Part of its time that a call may wait, however patient its kind: one that is left with little can share a batch with
few others."""

EXPIRED = DeadlineError("the deadline passed before work began", hint="nothing was done")
TOO_LATE = DeadlineError("the answer would come after the deadline", hint="nothing was done; allow more time")
STANDING = OverloadedError("the server is asked for more than it can answer", hint="try again with a growing pause")
NEXT_TURN = OverloadedError("the calls before this one would be late", hint="it has its turn after them")
DISK_BUSY = OverloadedError("too many calls wait for the disk", hint="try again with a growing pause")
# one object for all callers: they are returned and never raised here, and a refusal must cost next to nothing


class Turn(Protocol):
    """The calls that one worker takes together."""

    def refusal(self, call: Call, principal: Principal) -> HeadraceError | None:
        """Why not to answer a call; None to answer it, together with those of the turn that were let in before.

        NEXT_TURN is no refusal: answer those first, then ask again in a new turn.
        """


class Admission(Protocol):
    """Refuses at once what would be answered too late, or is asked too often."""

    def limit(self, most: int) -> int:
        """How many calls a worker is to take at once, so that about ``most`` of them or fewer are let in."""

    def room(self) -> int:
        """How many calls may wait at the door."""

    def turn(self, now: float, n: int) -> Turn:
        """Begin with n calls more than were taken before; ``now`` is on the clock of ``time.monotonic()``."""

    def answered(self, method: str, n: int, took_s: float, now: float) -> None:
        """Hear how long a batch of a method's calls took."""


class AdmitAll:
    """Refuses nothing."""

    def limit(self, most: int) -> int:
        """All."""
        return most

    def room(self) -> int:
        """No bound."""
        return UNBOUNDED

    def turn(self, now: float, n: int) -> AdmitAll:
        """Itself."""
        return self

    def refusal(self, call: Call, principal: Principal) -> None:
        """None."""

    def answered(self, method: str, n: int, took_s: float, now: float) -> None:
        """Nothing to learn."""


class AdmitInTime:
    """Lets in what can be answered in time.

    patience : how many times ``target_delay_ms`` the calls of a method may wait; ``otherwise`` for those not named.
    apart : names of methods that are answered on threads of their own, beside the batch.
    counts : by method, how many requests the bytes of a call hold, where that may be more than one; for the rates.

    Any thread may call. Figures that several threads write at once may lose an update; no decision hangs on one.
    """

    def __init__(
        self,
        config: AdmissionConfig,
        patience: Mapping[str, float],
        otherwise: float,
        *,
        apart: Collection[str],
        counts: Mapping[str, Callable[[bytes], int]] | None = None,
    ) -> None:
        self._config = config
        self._otherwise = otherwise
        self._counts = dict(counts or {})
        self._kinds = {name: _Kind(config, factor, name in apart) for name, factor in patience.items()}
        self._buckets = TokenBuckets()
        self._lock = threading.Lock()
        self._call_s = self._taken = self._let_in = 0.0
        self._room, self._since, self._taken_since = UNBOUNDED, 0.0, 0

    def configure(self, config: AdmissionConfig) -> None:
        """Go by other settings from now on; what was learned stays."""
        self._config = config
        for kind in list(self._kinds.values()):
            kind.configure(config)

    def limit(self, most: int) -> int:
        """As many calls as ``turn_ms`` of work, by what calls took of late and how many of them were let in."""
        if self._call_s * most * 1000 > self._config.turn_ms:
            most = max(1, int(self._config.turn_ms / 1000 / self._call_s))
        # refused calls must not take the places of those that share a batch's fixed cost, and a queue that stands must
        # be taken in faster than it grows
        share = self._let_in / self._taken if self._taken else 1.0
        return most if share > MOST_LET_IN else int(2 * most / max(share, LEAST_SHARE))

    def room(self) -> int:
        """As many calls as are taken within ROOM_TARGETS targets, while some calls stand; else no bound."""
        return self._room

    def turn(self, now: float, n: int) -> _Turn:
        """Begin with a batch."""
        self._taken_since += n
        if now - self._since >= ROOM_EVERY_S:
            self._measure_room(now)
        self._taken = self._taken * FADING + n
        self._let_in *= FADING
        return _Turn(self, now)

    def answered(self, method: str, n: int, took_s: float, now: float) -> None:
        """Learn from a batch."""
        kind = self._kind(method)
        with self._lock:
            self._let_in += n
            kind.cost.learn(n, took_s)
            kind.learned_at = now
            if not kind.apart:
                self._call_s += (kind.cost.each_s + kind.cost.fixed_s / n - self._call_s) * (1.0 - FADING)

    def _measure_room(self, now: float) -> None:
        rate, self._taken_since = self._taken_since / (now - self._since), 0
        self._since = now
        standing = any(kind.standing(now) for kind in list(self._kinds.values()))
        fits = rate * self._config.target_delay_ms / 1000 * ROOM_TARGETS
        self._room = max(LEAST_ROOM, int(fits)) if standing else UNBOUNDED

    def _kind(self, method: str) -> _Kind:
        kind = self._kinds.get(method)
        if kind is None:
            kind = self._kinds[method] = _Kind(self._config, self._otherwise, apart=False)
        return kind

    def _too_often(self, call: Call, principal: Principal, now: float) -> RateLimitError | None:
        rate, burst = principal.rate_per_second, principal.burst
        if rate is None:
            rate, burst = self._config.rate_per_second, self._config.burst
        if not rate:
            return None
        count = self._counts.get(call.method)
        n = max(count(call.body), 1) if count else 1
        caller = (principal.tenant, principal.name)
        wait_s = self._buckets.take(caller, now, rate, max(burst or rate, 1.0), n)
        if not wait_s:
            return None
        return RateLimitError(f"{principal.name} asks more than {rate:g} times a second", hint=_later(wait_s))


class _Turn:
    """One batch: what it will take grows with each call let in, and none may make an earlier one late."""

    __slots__ = ("_admission", "_begun", "_first_deadline", "_now", "_work_s")

    def __init__(self, admission: AdmitInTime, now: float) -> None:
        self._admission = admission
        self._now = now
        self._work_s = 0.0
        self._first_deadline = math.inf
        self._begun: set[str] = set()

    def refusal(self, call: Call, principal: Principal) -> HeadraceError | None:
        admission, now, deadline, method = self._admission, self._now, call.deadline, call.method
        left_s = deadline - now
        if left_s <= 0:
            return EXPIRED
        kind = admission._kinds.get(method) or admission._kind(method)
        cost = kind.cost
        work_s = cost.each_s if method in self._begun else cost.each_s + cost.fixed_s
        if not kind.apart:
            work_s += self._work_s
        needed_s = work_s * kind.margin + kind.reply_s
        refused: HeadraceError | None = None
        if kind.stands(now - call.arrived, left_s, now):
            refused = STANDING
        elif left_s < needed_s and not kind.probes(now):
            refused = TOO_LATE
        elif self._work_s and not kind.apart and self._is_full(work_s, needed_s):
            return NEXT_TURN
        if principal.rate_per_second or admission._config.rate_per_second:
            refused = admission._too_often(call, principal, now) or refused
        if refused is None:
            self._begun.add(method)
            if not kind.apart:
                self._work_s = work_s
                if deadline < self._first_deadline:
                    self._first_deadline = deadline
        return refused

    def _is_full(self, work_s: float, needed_s: float) -> bool:
        """Whether so much work is more than one turn should hold, or would make an earlier call late."""
        return work_s * 1000 > self._admission._config.turn_ms or needed_s > self._first_deadline - self._now


class _Kind:
    """What is known of one method: its cost, and whether its calls stand in the queue."""

    __slots__ = ("_above_at", "_interval_s", "_patience", "_seen_at", "_standing", "_target_s", "_under_at", "apart",
                 "cost", "learned_at", "margin", "reply_s")  # fmt: skip

    def __init__(self, config: AdmissionConfig, patience: float, apart: bool) -> None:
        self.apart = apart
        self.cost = Cost()
        self.learned_at = -PROBE_S
        self._patience = patience
        self.configure(config)
        self._standing = False
        self._seen_at = self._under_at = self._above_at = float("-inf")

    def configure(self, config: AdmissionConfig) -> None:
        self.margin = config.margin
        self.reply_s = config.reply_ms / 1000
        self._target_s = config.target_delay_ms / 1000 * self._patience
        self._interval_s = config.interval_ms / 1000

    def probes(self, now: float) -> bool:
        """Whether a call is due to find out what it takes now."""
        if now - self.learned_at < PROBE_S:
            return False
        self.learned_at = now
        return True

    def standing(self, now: float) -> bool:
        """Whether its calls stood when the last one was seen, unless that is long ago."""
        return self._standing and now - self._seen_at <= self._interval_s

    def stands(self, waited_s: float, left_s: float, now: float) -> bool:
        """Whether a call that waited so long is too much; left_s: what is left of its deadline.

        The queue stands once every call of an interval waited longer than the target; then each that did is too much,
        until for an interval none did. A burst that is worked off within an interval is no reason.
        """
        idle = now - self._seen_at > self._interval_s
        self._seen_at = now
        if idle:
            self._standing, self._under_at = False, now
        if waited_s <= self._target_s and waited_s <= WAITING_SHARE * (waited_s + left_s):
            self._under_at = now
            if self._standing and now - self._above_at > self._interval_s:
                self._standing = False
            return False
        self._above_at = now
        if now - self._under_at > self._interval_s:
            self._standing = True
        return self._standing


class Room:
    """Places for so many calls. Thread-safe."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()

    def take(self, n: int) -> int:
        """Take n places or as many as there are; how many."""
        with self._lock:
            n = min(n, self._free)
            self._free -= n
            return n

    def give(self, n: int) -> None:
        """Give n places back."""
        with self._lock:
            self._free += n


def _later(seconds: float) -> str:
    return f"try again in {max(seconds, 0.001):.3f} s"
