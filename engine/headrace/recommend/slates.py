"""The record of what was shown, kept off the path of answers."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
from collections.abc import Callable, Container, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace

from headrace.events.log import EventLog, Slate
from headrace.state.items import ItemTable
from headrace.types import Int32

_log = logging.getLogger("headrace.recommend")

MAX_WAITING = 20_000
"""Slates that wait to be stored; more are counted and dropped, so that a slow disk never delays an answer."""


@dataclass(frozen=True, slots=True)
class Shown:
    """n slates answered together, not yet put into words: (n, k) rows of ``items``, ``counts`` of them valid."""

    request_ids: list[str]
    time_ms: int
    subject_keys: list[int]
    artifact_version: str
    tiers: Int32
    surfaces: list[str]
    items: ItemTable
    rows: Int32
    counts: Int32

    def without(self, left_out: Container[int]) -> Shown:
        """The same but for those at some positions."""
        kept = [i for i in range(len(self.request_ids)) if i not in left_out]
        return replace(
            self,
            request_ids=[self.request_ids[i] for i in kept],
            subject_keys=[self.subject_keys[i] for i in kept],
            tiers=self.tiers[kept],
            surfaces=[self.surfaces[i] for i in kept],
            rows=self.rows[kept],
            counts=self.counts[kept],
        )

    def slates(self) -> Iterator[Slate]:
        """Each of them as the log stores it."""
        parts = (self.request_ids, self.subject_keys, self.tiers.tolist(), self.surfaces, self.counts.tolist())
        for i, (request_id, subject_key, tier, surface, count) in enumerate(zip(*parts, strict=True)):
            item_ids = self.items.rows.json_ids(self.rows[i, :count])
            yield Slate(request_id, self.time_ms, subject_key, self.artifact_version, tier, surface, item_ids)


class SlateRecorder:
    """Takes slates from any thread, stores them when :meth:`flush` is called.

    keep_ms : for how long slates are kept, ms; None: for ever.

    Attribute ``n_dropped`` counts slates that were not stored, for want of room or because the store refused them.
    """

    def __init__(self, log: EventLog, keep_ms: int | None = None) -> None:
        self._event_log = log
        self._keep_ms = keep_ms
        self._lock = threading.Lock()
        self._waiting: list[Shown] = []
        self._n_waiting = 0
        self.n_dropped = 0
        self._new_request_id = _request_ids()

    def new_request_ids(self, n: int) -> list[str]:
        """Names of n slates."""
        return [self._new_request_id() for _ in range(n)]

    def add(self, shown: Shown) -> None:
        """Keep slates for the next flush."""
        n = len(shown.request_ids)
        with self._lock:
            if self._n_waiting + n <= MAX_WAITING:
                self._n_waiting += n
                self._waiting.append(shown)
            else:
                self.n_dropped += n

    def flush(self) -> Future[None] | None:
        """Hand what waits to the store; the future resolves after the commit, None when nothing waits."""
        with self._lock:
            batches, self._waiting, self._n_waiting = self._waiting, [], 0
        if not batches:
            return None
        rows = [slate for shown in batches for slate in shown.slates()]
        keep_from_ms = None if self._keep_ms is None else max(shown.time_ms for shown in batches) - self._keep_ms
        future = self._event_log.append_slates(rows, keep_from_ms)
        future.add_done_callback(lambda done: self._check(done, len(rows)))
        return future

    def _check(self, done: Future[None], n_slates: int) -> None:
        error = done.exception()
        if error is not None:
            self.n_dropped += n_slates
            _log.warning("%d slates were not stored: %s", n_slates, error)


def _request_ids() -> Callable[[], str]:
    prefix, counter = secrets.token_hex(8), itertools.count(1)
    return lambda: f"{prefix}{next(counter):x}"
