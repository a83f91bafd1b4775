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
from headrace.errors import HeadraceError, NotFoundError, OverloadedError, PreconditionError
from headrace.events.identity import subject_name
from headrace.events.log import EventLog
from headrace.recommend.model import Model
from headrace.recommend.retrieve import POPULAR, Found, Wanted, popular, retrieve
from headrace.recommend.similar import similar
from headrace.recommend.slates import Shown, SlateRecorder
from headrace.recommend.warm import warm
from headrace.state.users import People
from headrace.types import Int32, Int64

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
    session_item_ids: Sequence[str] = ()
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
        return [self.model.items.rows.id(row) for row in self.rows]


@dataclass(frozen=True, slots=True)
class Requests:
    """n checked wishes in columns: names of the subjects, "" for none, and the rest as in recommender.proto."""

    names: list[str]
    surfaces: list[str]
    min_sequences: list[int]
    wanted: Wanted


@dataclass(frozen=True, slots=True)
class Answers:
    """n slates in columns, as ``found`` has them; ``errors`` by position for those that must not be sent."""

    request_ids: list[str]
    event_sequence: int
    found: Found
    errors: dict[int, HeadraceError]


class Recommender:
    """Answers batches over the current model; any thread may call.

    model : what to answer from first. log : the log that all models follow. clock_ms : ms since 1970 UTC.
    keep_slates_ms : for how long what was shown is kept, ms; None: for ever.

    Attribute ``tiers`` counts slates by tier.
    """

    def __init__(
        self,
        model: Model,
        log: EventLog,
        clock_ms: Callable[[], int] | None = None,
        keep_slates_ms: int | None = None,
    ) -> None:
        self._model = model
        self.log = log
        self.clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self.slates = SlateRecorder(log, keep_slates_ms)
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
        model = self._model
        answers = self.answer(model, _requests(model, queries))
        found = answers.found
        columns = (found.rows.tolist(), found.scores.tolist(), found.counts.tolist(), found.tiers.tolist())
        slates = zip(answers.request_ids, *columns, strict=True)
        return [
            answers.errors.get(i)
            or Answer(request_id, model, answers.event_sequence, tier, rows[:count], scores[:count])
            for i, (request_id, rows, scores, count, tier) in enumerate(slates)
        ]

    def answer(self, model: Model, requests: Requests) -> Answers:
        """The same in columns, over the model whose rows the requests name."""
        now_ms, newest = self.clock_ms(), max(requests.min_sequences, default=0)
        if newest > model.users.sequence:
            model.users.catch_up()
        people, wanted = model.users.gather(requests.names, now_ms), requests.wanted
        if len(wanted.session_rows):
            people = model.users.with_session(people, wanted.session_indptr, wanted.session_rows)
        errors: dict[int, HeadraceError] = {}
        if newest > people.sequence:
            late = [(i, least) for i, least in enumerate(requests.min_sequences) if least > people.sequence]
            errors = {i: _not_yet(least, people) for i, least in late}
        return self._shown(model, requests, people, retrieve(model, people, wanted), errors, now_ms)

    def answer_popular(self, model: Model, requests: Requests) -> Answers:
        """Popular items for all, without a look at anybody's history: what there is time for under load."""
        now_ms = self.clock_ms()
        people = model.users.strangers(len(requests.names), now_ms)
        errors: dict[int, HeadraceError] = {
            i: OverloadedError("no time to answer with that event seen", hint="try again, or leave out min_sequence")
            for i, least in enumerate(requests.min_sequences)
            if least > people.sequence
        }
        return self._shown(model, requests, people, popular(model, people, requests.wanted), errors, now_ms)

    def similar(self, item_id: str, limit: int = 20, exclude_item_ids: Sequence[str] = ()) -> Answer:
        """Items bought by the same people as an item. Raises NotFoundError for one that nobody has named yet."""
        model, now_ms = self._model, self.clock_ms()
        people = model.users.gather([], now_ms)
        row = model.items.rows.find(item_id)
        if row < 0 or row >= people.n_rows:
            raise NotFoundError(
                "item_id", got=item_id, expected="an item of the artifact or the catalog", hint="upsert the item first"
            )
        banned = people.banned.copy()
        banned[_rows_of(model, exclude_item_ids, people.n_rows)] = 1
        banned[row] = 1
        rows, scores = similar(model, row, limit, banned)
        request_ids, nought, n = self.slates.new_request_ids(1), np.zeros(1, dtype=np.int32), np.array([len(rows)])
        shown = Shown(request_ids, now_ms, [0], model.version, nought, ["similar"], model.items, rows[None], n)
        self.slates.add(shown)
        return Answer(request_ids[0], model, people.sequence, 0, rows.tolist(), scores.tolist())

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

    def _shown(
        self,
        model: Model,
        requests: Requests,
        people: People,
        found: Found,
        errors: dict[int, HeadraceError],
        now_ms: int,
    ) -> Answers:
        request_ids = self.slates.new_request_ids(len(requests.names))
        sent = Shown(
            request_ids, now_ms, people.subject_keys, model.version, found.tiers, requests.surfaces, model.items,
            found.rows, found.counts,
        )  # fmt: skip
        sent = sent.without(errors) if errors else sent
        self.tiers.add(sent.tiers)
        self.slates.add(sent)
        return Answers(request_ids, people.sequence, found, errors)

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_INTERVAL_S):
            try:
                self.catch_up()
                self.slates.flush()
            except Exception:  # a disk that fails now may work again; answers go on from what is known
                _log.exception("following the log failed")


def _rows_of(model: Model, item_ids: Sequence[str], n_rows: int) -> list[int]:
    rows = map(model.items.rows.find, item_ids)
    return [row for row in rows if 0 <= row < n_rows]


def _requests(model: Model, queries: Sequence[Query]) -> Requests:
    excluded = [_rows_of(model, query.exclude_item_ids, model.items.n_rows) for query in queries]
    session = [_rows_of(model, query.session_item_ids, model.items.n_rows) for query in queries]
    purchased = [query.exclude_purchased for query in queries]
    wanted = Wanted(
        np.array([query.limit for query in queries], dtype=np.int32),
        np.array([model.exclude_purchased if p is None else p for p in purchased], dtype=np.int8),
        *_in_columns(excluded),
        *_in_columns(session),
    )
    return Requests(
        [subject_name(query.user_id, query.anonymous_id) for query in queries],
        [query.surface for query in queries],
        [query.min_sequence for query in queries],
        wanted,
    )


def _in_columns(parts: list[list[int]]) -> tuple[Int64, Int32]:
    indptr = np.array([0, *accumulate(map(len, parts))], dtype=np.int64)
    return indptr, np.array([row for rows in parts for row in rows], dtype=np.int32)


def _not_yet(min_sequence: int, people: People) -> PreconditionError:
    return PreconditionError(
        "min_sequence",
        got=min_sequence,
        expected=f"at most {people.sequence}, the last event of the log",
        hint="pass the sequence that RecordEvents answered on this shop's log",
    )
