"""The record of what was shown, kept off the path of answers."""

from __future__ import annotations

import itertools
import json
import logging
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from headrace.events.log import EventLog, Slate

_log = logging.getLogger("headrace.recommend")

_to_json = json.JSONEncoder(ensure_ascii=False).encode
"""json.dumps would make an encoder for every slate."""

MAX_WAITING = 20_000
"""Slates that wait to be stored; more are counted and dropped, so that a slow disk never delays an answer."""


class Shown(NamedTuple):
    """One answered slate, not yet put into words."""

    request_id: str
    time_ms: int
    subject_key: int
    artifact_version: str
    tier: int
    surface: str
    item_ids: list[str]


class SlateRecorder:
    """Takes slates from any thread, stores them when :meth:`flush` is called.

    Attribute ``n_dropped`` counts slates that were not stored, for want of room or because the store refused them.
    """

    def __init__(self, log: EventLog) -> None:
        self._event_log = log
        self._waiting: deque[Shown] = deque()
        self.n_dropped = 0
        self.new_request_id = _request_ids()

    def add(self, slate: Shown) -> None:
        """Keep a slate for the next flush."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(slate)
        else:
            self.n_dropped += 1

    def flush(self) -> Future[None] | None:
        """Hand what waits to the store; the future resolves after the commit, None when nothing waits."""
        slates = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not slates:
            return None
        rows = [Slate(*shown[:-1], _to_json(shown.item_ids)) for shown in slates]
        future = self._event_log.append_slates(rows)
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
