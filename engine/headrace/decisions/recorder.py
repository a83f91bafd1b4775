"""Takes decided batches from the bidding path and writes them, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from headrace.decisions.batch import Action, Amounts, Decided
from headrace.decisions.columns import block_of, digest, warm_columns
from headrace.decisions.erasure import Erasures, unlink
from headrace.decisions.layout import TOLD, WITHDRAWN, Kind, frame
from headrace.decisions.segments import Segment, drop_old
from headrace.decisions.settings import DecisionsConfig
from headrace.types import Float64

ROUND_S = 0.2
"""Seconds between two writes, unless half of the queue is full before."""
TIDY_S = 1.0
"""Seconds between two looks at what must be forgotten, or is too old."""
MAX_TOLD = 1 << 20
"""Outcomes that wait, at most, and actions."""
FRAME_CANDIDATES = 1 << 14
"""Candidates of all impressions of a frame, about."""
_MIB = 1 << 20

_log = logging.getLogger("headrace.decisions")

_Told = tuple[bytes, int, int, int, int]
"""A row of what is told of bids."""


class DecisionRecorder:
    """A `Recorder` that keeps what it hears in the segments of a folder.

    erasures : who must be forgotten.
    clock_ms : the time of outcomes, ms since 1970 UTC.   wall_s : by which files begin and end, seconds.

    Attributes: ``n_recorded`` impressions written, ``n_dropped`` impressions and outcomes for which there was no room
    or no disk, ``n_waiting`` impressions. Any thread may call; only one writes at a time.
    """

    def __init__(
        self,
        folder: Path,
        config: DecisionsConfig,
        erasures: Erasures,
        clock_ms: Callable[[], int],
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self._folder, self._config, self._erasures = folder, config, erasures
        self._clock_ms, self._wall_s = clock_ms, wall_s
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._batches: list[Decided] = []
        self._told = _nothing()
        self.n_waiting = self.n_recorded = self.n_dropped = 0
        self._n_requests, self._n_solutions = 0, 0
        self._terms: object = None
        self._rng = np.random.default_rng()
        self._segment: Segment | None = None
        self._tidied_s = -TIDY_S
        self._wake, self._over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="headrace-decisions", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        warm_columns()
        self._thread.start()

    def close(self) -> None:
        """Write what waits, forget who is to be forgotten, and end; what comes later is kept nowhere. Twice is fine."""
        self._over = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        self._work(tidy=True)
        with self._writing:
            self._end_segment()

    def configure(self, config: DecisionsConfig) -> None:
        """Take over what may change while it runs."""
        self._config = config

    def decided(self, batch: Decided) -> None:
        """See `Recorder`; a microsecond, whatever the batch."""
        n = len(batch.draft.reasons)
        with self._lock:
            if self.n_waiting + n > self._config.queue:
                self.n_dropped += n
                return
            self.n_waiting += n
            self._batches.append(batch)
        if self.n_waiting * 2 > self._config.queue:
            self._wake.set()

    def withdrawn(self, tokens: Sequence[str]) -> None:
        """See `Recorder`."""
        nothing = [None] * len(tokens)
        self.heard([WITHDRAWN] * len(tokens), tokens, nothing, nothing)

    def heard(self, kinds: Sequence[int], tokens: Sequence[str], prices_cpm: Amounts, minimums_cpm: Amounts) -> None:
        """See `Recorder`."""
        now_ms = self._clock_ms()
        new = [
            (digest(token), now_ms, -1 if price is None else price, -1 if minimum is None else minimum, kind)
            for kind, token, price, minimum in zip(kinds, tokens, prices_cpm, minimums_cpm, strict=True)
        ]
        self._put(Kind.OUTCOMES, new)

    def acted(self, actions: Sequence[Action]) -> None:
        """See `Recorder`."""
        now_ms = self._clock_ms()
        told = ((digest(each.token), each.time_ms, now_ms, each.worth_micros, each.n) for each in actions)
        self._put(Kind.ACTIONS, list(told))

    def _put(self, kind: Kind, new: Sequence[_Told]) -> None:
        with self._lock:
            waiting = self._told[kind]
            if len(waiting) + len(new) > MAX_TOLD:
                self.n_dropped += len(new)
            else:
                waiting.extend(new)

    def flush(self) -> None:
        """Hand all that waits to the system before this returns."""
        with self._writing:
            with self._lock:
                batches, self._batches = self._batches, []
                told, self._told = self._told, _nothing()
                self.n_waiting = 0
            if batches or any(told.values()):
                self._write(batches, told)

    def tidy(self) -> None:
        """End the segment where it is due, forget who must be forgotten, drop what is too old."""
        with self._writing:
            now_s = self._wall_s()
            segment, config = self._segment, self._config
            if segment is not None and (
                segment.n_bytes >= config.segment_mib * _MIB
                or not 0.0 <= now_s - segment.begun_s < config.segment_minutes * 60.0
            ):
                self._end_segment()
            if self._folder.is_dir():
                before = self._erasures.sequence
                if self._erasures.news():
                    self._end_segment(before)
                self._erasures.apply()
                drop_old(self._folder, config, now_s)

    def _run(self) -> None:
        while not self._over:
            self._wake.wait(ROUND_S)
            self._wake.clear()
            now = time.monotonic()
            tidy = now - self._tidied_s >= TIDY_S
            self._tidied_s = now if tidy else self._tidied_s
            self._work(tidy)

    def _work(self, tidy: bool) -> None:
        try:
            self.flush()
            if tidy:
                self.tidy()
        except Exception:  # a disk that fails now may work again
            _log.exception("keeping decision records failed")

    def _write(self, batches: list[Decided], told: Mapping[Kind, Sequence[_Told]]) -> None:
        n_dropped = sum(len(batch.draft.reasons) for batch in batches) + sum(map(len, told.values()))
        n_recorded = 0
        try:
            for group in _groups(batches):
                n_recorded += self._write_group(group)
                n_dropped -= sum(len(batch.draft.reasons) for batch in group)
            for kind, rows in told.items():
                if rows:
                    self._current().write(frame(kind, np.array(rows, TOLD[kind]).tobytes()))
                    n_dropped -= len(rows)
        except OSError as error:
            _log.warning("%d decision records were dropped: %s", n_dropped, error)
            self._end_segment()
        self.n_recorded += n_recorded
        with self._lock:
            self.n_dropped += n_dropped

    def _write_group(self, group: list[Decided]) -> int:
        first = group[0]
        if first.terms is not self._terms:
            self._terms = first.terms
            self._n_solutions += 1
        first_request = self._n_requests
        self._n_requests += sum(len(batch.asked.time_ms) for batch in group)
        block, exchanges, placements = block_of(
            group, first_request, self._weights(group), self._config.candidate_limit
        )
        auctions = block.auctions
        if not len(auctions):
            return 0
        unlink(auctions, self._erasures.keys)  # who was erased between the decision and now
        segment = self._current()
        numbers = segment.numbers
        auctions["board"], board_frame = numbers.board(first.board)
        rows = np.unique(auctions["market_row"]).tolist()
        shaded = auctions["market_row"][(auctions["first_price"] == 1) & (auctions["bid_cpm"] > 0)]
        known = int(auctions["time_ms"][0]), rows, set(shaded.tolist())
        auctions["model"], model_frame = numbers.model(first.model, *known)
        auctions["exchange"], exchange_frames = numbers.words(exchanges)
        auctions["placement"], placement_frames = numbers.words(placements)
        auctions["solution"] = self._n_solutions
        frames = (board_frame, model_frame, exchange_frames, placement_frames, frame(Kind.AUCTIONS, block.to_bytes()))
        segment.write(b"".join(frames))
        return len(auctions)

    def _weights(self, group: list[Decided]) -> Float64:
        """What each impression stands for: bids for themselves, no-bids for those not drawn, too."""
        reasons = np.concatenate([np.array(batch.draft.reasons, np.int64) for batch in group])
        rate = self._config.no_bid_rate
        drawn = self._rng.random(len(reasons)) < rate
        return np.where(reasons == 0, 1.0, np.where(drawn, 1.0 / rate if rate else 0.0, 0.0))

    def _current(self) -> Segment:
        if self._segment is None:
            self._segment = Segment(self._folder, self._wall_s(), self._erasures.sequence)
        return self._segment

    def _end_segment(self, clean_until: int | None = None) -> None:
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close(self._erasures.sequence if clean_until is None else clean_until)


def _nothing() -> dict[Kind, list[_Told]]:
    return {kind: [] for kind in TOLD}


def _groups(batches: Sequence[Decided]) -> Iterator[list[Decided]]:
    """Batches that lie together and share board, model and terms, not too much at once."""
    for _, same in groupby(batches, key=lambda batch: (id(batch.board), id(batch.model), id(batch.terms))):
        group: list[Decided] = []
        n = 0
        for batch in same:
            group.append(batch)
            n += len(batch.draft.reasons) * (1 + len(batch.offers.lines) // len(batch.asked.time_ms))
            if n >= FRAME_CANDIDATES:
                yield group
                group, n = [], 0
        if group:
            yield group
