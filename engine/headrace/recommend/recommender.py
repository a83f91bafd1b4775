"""Personal recommendations over the model that is current."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from headrace.counters import Counts
from headrace.errors import HeadraceError, NotFoundError, PreconditionError
from headrace.events.identity import subject_name
from headrace.events.log import EventLog
from headrace.kernels.topk import MAX_QUERIES
from headrace.recommend.model import Model
from headrace.recommend.retrieve import POPULAR, Wanted, retrieve
from headrace.recommend.similar import similar
from headrace.recommend.slates import Shown, SlateRecorder
from headrace.recommend.warm import warm
from headrace.state.users import People

_log = logging.getLogger("headrace.recommend")

FOLLOW_INTERVAL_S = 0.2
"""How often a process looks for what others have written to the log."""

N_TIERS = 16
"""Room for the tiers of recommender.proto."""


@dataclass(frozen=True, slots=True)
class Query:
    """One person's wish, checked; as in recommender.proto. ``exclude_purchased`` None: the artifact's default."""

    user_id: str = ""
    anonymous_id: str = ""
    limit: int = 20
    exclude_purchased: bool | None = None
    exclude_item_ids: Sequence[str] = ()
    min_sequence: int = 0
    surface: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One slate: rows of ``model.items`` with scores, best first; the rest as in recommender.proto."""

    request_id: str
    model: Model
    event_sequence: int
    tier: int = 0
    rows: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def cold_start(self) -> bool:
        """Whether nothing usable was known of the person."""
        return self.tier == POPULAR

    @property
    def item_ids(self) -> list[str]:
        """Ids of the items, best first."""
        ids = self.model.items.ids
        return [ids[row] for row in self.rows]


class Recommender:
    """Answers batches over the current model; any thread may call.

    model : what to answer from first. log : the log that all models follow. clock_ms : ms since 1970 UTC.

    Attribute ``tiers`` counts slates by tier.
    """

    def __init__(self, model: Model, log: EventLog, clock_ms: Callable[[], int] | None = None) -> None:
        self._model = model
        self.log = log
        self.clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self.slates = SlateRecorder(log)
        self.tiers = Counts(N_TIERS)
        self._swap_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def model(self) -> Model:
        """The model that the next batch is answered from."""
        return self._model

    def swap(self, model: Model) -> None:
        """Answer from another model from now on; batches in flight end on the old one."""
        warm(model)
        with self._swap_lock:
            # An event seen by the old model must not vanish from the next answer.
            model.users.catch_up()
            self._model = model

    def catch_up(self) -> int:
        """Follow the log to its present end; returns the sequence of the last event seen."""
        with self._swap_lock:
            return self._model.users.catch_up()

    def recommend(self, queries: Sequence[Query]) -> list[Answer | HeadraceError]:
        """One slate a query, in order; each as if it had been asked alone."""
        model, now_ms = self._model, self.clock_ms()
        answers: list[Answer | HeadraceError] = []
        for first in range(0, len(queries), MAX_QUERIES):
            answers += self._recommend_some(model, queries[first : first + MAX_QUERIES], now_ms)
        return answers

    def similar(self, item_id: str, limit: int = 20, exclude_item_ids: Sequence[str] = ()) -> Answer:
        """Items bought by the same people as an item. Raises NotFoundError for one that nobody has named yet."""
        model, now_ms = self._model, self.clock_ms()
        people = model.users.gather([], now_ms)
        row = model.items.row_of_id.get(item_id, -1)
        if row < 0 or row >= people.n_rows:
            raise NotFoundError(
                "item_id", got=item_id, expected="an item of the artifact or the catalog", hint="upsert the item first"
            )
        banned = people.banned.copy()
        banned[_rows_of(model, exclude_item_ids, people.n_rows)] = 1
        banned[row] = 1
        rows, scores = similar(model, row, limit, banned)
        answer = Answer(self.slates.new_request_id(), model, people.sequence, 0, rows.tolist(), scores.tolist())
        self._record(answer, now_ms, 0, "similar")
        return answer

    def start(self) -> None:
        """Follow the log and store slates on a thread of its own."""
        self._thread = threading.Thread(target=self._follow, name="headrace-follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop following; slates that wait are stored."""
        self._stop.set()
        if self._thread:
            self._thread.join()
        stored = self.slates.flush()
        if stored:
            wait([stored])

    def warm(self) -> None:
        """Run every kernel once, so that no caller waits for a compiler."""
        warm(self._model)

    def _recommend_some(self, model: Model, queries: Sequence[Query], now_ms: int) -> list[Answer | HeadraceError]:
        names = [subject_name(query.user_id, query.anonymous_id) for query in queries]
        newest = max((query.min_sequence for query in queries), default=0)
        if newest > model.users.sequence:
            model.users.catch_up()
        people = model.users.gather(names, now_ms)
        found = retrieve(model, people, _wanted(model, queries, people.n_rows))
        rows, scores = found.rows.tolist(), found.scores.tolist()
        counts, tiers = found.counts.tolist(), found.tiers
        self.tiers.add(tiers)
        answers: list[Answer | HeadraceError] = []
        for q, query in enumerate(queries):
            if query.min_sequence > people.sequence:
                answers.append(_not_yet(query, people))
                continue
            request_id, n = self.slates.new_request_id(), counts[q]
            answer = Answer(request_id, model, people.sequence, tiers[q], rows[q][:n], scores[q][:n])
            self._record(answer, now_ms, people.subject_keys[q], query.surface)
            answers.append(answer)
        return answers

    def _record(self, answer: Answer, now_ms: int, subject_key: int, surface: str) -> None:
        version = answer.model.version
        self.slates.add(Shown(answer.request_id, now_ms, subject_key, version, answer.tier, surface, answer.item_ids))

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_INTERVAL_S):
            try:
                self.catch_up()
                self.slates.flush()
            except Exception:  # a disk that fails now may work again; answers go on from what is known
                _log.exception("following the log failed")


def _rows_of(model: Model, item_ids: Sequence[str], n_rows: int) -> list[int]:
    row_of_id = model.items.row_of_id
    rows = [row_of_id.get(item_id, -1) for item_id in item_ids]
    return [row for row in rows if 0 <= row < n_rows]


def _wanted(model: Model, queries: Sequence[Query], n_rows: int) -> Wanted:
    default = model.exclude_purchased
    excluded = [_rows_of(model, query.exclude_item_ids, n_rows) if query.exclude_item_ids else [] for query in queries]
    starts = [0, *accumulate(map(len, excluded))]
    purchased = [default if query.exclude_purchased is None else query.exclude_purchased for query in queries]
    return Wanted(
        limits=np.array([query.limit for query in queries], dtype=np.int32),
        exclude_purchased=np.array(purchased, dtype=np.int8),
        excluded_indptr=np.array(starts, dtype=np.int64),
        excluded_rows=np.array([row for rows in excluded for row in rows], dtype=np.int32),
    )


def _not_yet(query: Query, people: People) -> PreconditionError:
    return PreconditionError(
        "min_sequence",
        got=query.min_sequence,
        expected=f"at most {people.sequence}, the last event of the log",
        hint="pass the sequence that RecordEvents answered on this shop's log",
    )
