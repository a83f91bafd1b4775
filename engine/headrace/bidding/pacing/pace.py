"""Pacing by solving again and again: the largest multipliers that the budget left allows over the traffic left.

Expected spend as a function of the multiplier is tabulated from the price landscape and the recent values of a line
item, and corrected, within bounds, by what bids really cost. Nothing is integrated, so nothing winds up; after a cut
or a pause the next solution starts from what is left. While the forecast does not hold, budgets are steered by dual
updates instead (see `headrace.bidding.pacing.drift`). Time is the requests' own, so a replay paces the same.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.pacing.course import Course
from headrace.bidding.pacing.forecast import Forecast
from headrace.bidding.pacing.goals import Counted
from headrace.bidding.pacing.progress import Kept
from headrace.bidding.pacing.solution import Report, Since
from headrace.bidding.pacing.wins import Wins
from headrace.bidding.predict import BidModel
from headrace.bidding.pricing.landscape import Landscape
from headrace.bidding.pricing.winrate import Lessons
from headrace.bidding.settings import BiddingConfig
from headrace.kernels.goals import Earnings, Wishes, earning_steps, promise_premiums
from headrace.kernels.pace import (
    N_STEPS,
    N_VALUE_BINS,
    Curves,
    Needs,
    Seen,
    observe,
    solve_steps,
    tabulate_spend,
    tabulate_worth,
    value_bin,
    value_place,
    win_curve,
)
from headrace.kernels.price import Terms
from headrace.ledger.ledger import Ledger
from headrace.types import Float64, Int32, Int64

MOST_WEIGHT = 2.0**40
"""Weights of new impressions grow instead of old ones fading, and are brought back to 1 from here."""
REST = 4.0
"""A solution is followed by a rest of so many times what it took: it takes a fifth of a core at most."""
BACK_MS = 600_000
"""Requests that are so much earlier than the last solution say that the clock was set back."""

_log = logging.getLogger("headrace.bidding")


class Pacer:
    """Multipliers of all line items.

    ``heard_actions`` : number of the last reported action that it was told of.

    lock : guards what bids fill and read; it is held for moments only. Solving takes place outside of it, one thread at
        a time.
    """

    def __init__(
        self, ledger: Ledger, config: BiddingConfig, board: Board, model: BidModel, lock: threading.Lock
    ) -> None:
        self._ledger = ledger
        self._config = config
        self._lock = lock
        self._solving = threading.Lock()
        self._model = model
        self._n_seen = 0
        self._kinds = np.zeros(2)
        self._weight = 1.0
        self._wins = Wins()
        self._actions: list[Counted] = []
        self.heard_actions = 0
        self._forecast = Forecast(model.profile)
        self._dirty = True
        self._wake: threading.Event | None = None
        self._wake_ms = 0
        self.landscape = Landscape(model.market, model.exchanges, model.auctions)
        self._curves = curves_of(self.landscape.costs)
        self._course = Course(board, config)

    @property
    def terms(self) -> Terms:
        """Of the last solution; replaced in whole, never changed."""
        return self._course.terms

    @property
    def report(self) -> Report:
        """Of the last solution; replaced in whole, never changed."""
        return self._course.report

    def adopt(self, board: Board, model: BidModel, install: Callable[[], None]) -> None:
        """Take over a new board or model; what was learned of line items that stay is kept.

        install : called under the lock at the moment from which ``terms`` are of the new board.
        """
        with self._solving:
            if model is not self._model:
                self._forecast.adopt(model.profile)
                self.landscape.adopt(model.market, model.exchanges, model.auctions)
                self._model = model
            old = self._course
            course = old.for_board(board)
            if course.now_ms:
                nothing = Since.nothing(board.n_lines, *self._met())
                course.solve(course.now_ms, nothing, self._ledger, self._forecast, course.tally.values.__getitem__)
            with self._lock:
                install()
                course.take_counts(old)
                self._course, self._dirty = course, True

    def observe(self, seen: Seen, n_first: int) -> None:
        """Count a priced batch, under the lock; n_first : how many of its auctions are first-price."""
        course = self._course
        observe(seen, course.terms, self._curves, self._weight, course.tally)
        self._kinds[0] += len(seen.request) - n_first
        self._kinds[1] += n_first
        self._n_seen += len(seen.request)

    def placed(self, tokens: Sequence[str], lines: Int32, value_cpm: Int64, now_ms: int) -> None:
        """Remember bids, under the lock, for line items and values of n impressions."""
        self._wins.placed(tokens, self._course.board.nodes.accounts[lines], value_cpm, now_ms)

    def withdraw(self, tokens: Sequence[str]) -> None:
        """Forget bids that nobody was told of, under the lock."""
        self._wins.withdraw(tokens)
        self.landscape.withdraw(tokens)

    def heard(self, types: Sequence[int], tokens: Sequence[str]) -> None:
        """Count wins of accepted notices, under the lock."""
        self._wins.heard(types, tokens, self._course.now_ms)

    def learn_actions(self, actions: Sequence[Counted]) -> None:
        """Correct predicted purchases by reported ones, numbered upwards; those known already are left out."""
        with self._lock:
            new = [action for action in actions if action.number > self.heard_actions]
            self._actions.extend(new)
            self.heard_actions = max((action.number for action in new), default=self.heard_actions)
            self._dirty = True

    def learn_delays(self, reports: Sequence[tuple[int, int, int]]) -> None:
        """Learn how long reports of purchases take: when each one's bid was made, when it came, of how many."""
        with self._solving:
            for report in reports:
                self._course.goals.delay.heard(*report)

    def advance(self, now_ms: int) -> None:
        """Solve again if enough time of the requests, or enough of them, went by since the last solution.

        With `aside` that is left to a thread of its own, but for the first time. Not under the lock.
        """
        then_ms = self._course.now_ms
        due = (
            self._dirty
            or now_ms - then_ms >= self._config.solve_every_ms
            or then_ms - now_ms >= BACK_MS
            or self._n_seen >= self._config.solve_every_impressions
        )
        if not due:
            return
        moment = now_ms if then_ms - now_ms >= BACK_MS else max(now_ms, then_ms)
        if self._wake is not None and then_ms:
            self._wake_ms = moment
            self._wake.set()
        elif self._solving.acquire(blocking=False):
            try:
                self._solve(moment)
            finally:
                self._solving.release()

    def solve(self, now_ms: int) -> None:
        """Replace the terms by those for a moment, ms since 1970 UTC. Not under the lock."""
        with self._solving:
            self._solve(now_ms)

    def progress(self) -> Kept:
        """What promises, goals and reported purchases have come to so far."""
        with self._solving:
            return self._course.progress()

    def restore(self, kept: Kept, now_ms: int) -> None:
        """Go on from what was kept of an earlier process; see `Course.restore`."""
        with self._solving, self._lock:
            self._course.restore(kept, now_ms)
            self._actions, self.heard_actions = [], kept.heard

    def prices(self) -> Lessons:
        """What bids taught of prices."""
        with self._solving:
            return self.landscape.keep()

    def restore_prices(self, kept: Lessons, share: float) -> None:
        """Go on from a share of what an earlier process learned of prices."""
        with self._solving:
            self.landscape.restore(kept, share)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Within: solutions are made by a thread of their own, and bids go on with the last one meanwhile."""
        over = threading.Event()
        self._wake = threading.Event()
        thread = threading.Thread(target=self._run, args=(over, self._wake), name="headrace-pacer")
        thread.start()
        try:
            yield
        finally:
            over.set()
            self._wake.set()
            thread.join()
            self._wake = None

    def _run(self, over: threading.Event, wake: threading.Event) -> None:
        while wake.wait() and not over.is_set():
            wake.clear()
            began = time.monotonic()
            try:
                self.solve(self._wake_ms)
            except Exception:  # a ledger that cannot answer now may do so again
                _log.exception("solving the pacer's multipliers failed")
            over.wait(REST * (time.monotonic() - began))

    def _solve(self, now_ms: int) -> None:
        course = self._course
        then_ms = min(course.now_ms or now_ms, now_ms)
        with self._lock:
            met = self.landscape.gather(now_ms)
        self.landscape.learn(met)
        with self._lock:
            n_seen, self._n_seen, self._dirty = self._n_seen, 0, False
            seen = self._take(course, now_ms, n_seen)
        gone = self._forecast.gone(then_ms, now_ms, n_seen)
        if not gone and self._forecast.add(then_ms, now_ms, n_seen) and course.now_ms:
            take = course.relearn_profile if self._forecast.blank else course.refresh_profile
            take(now_ms, self._forecast.shares)
        course.solve(now_ms, seen._replace(gone=gone), self._ledger, self._forecast, self._values)

    def _take(self, course: Course, now_ms: int, n_seen: int) -> Since:
        """What was counted since the last solution, under the lock."""
        counts = np.stack(course.tally[1:])
        for kept in course.tally[1:]:
            kept[:] = 0.0
        grown = 2.0 ** (max(now_ms - course.now_ms, 0) / self._config.half_life_ms) if course.now_ms else 1.0
        self._weight *= min(grown, MOST_WEIGHT)
        self._kinds /= grown
        if self._weight > MOST_WEIGHT:
            course.tally.values[:] /= self._weight
            self._weight = 1.0
        course.learn_actions(self._actions)
        self._actions = []
        won, delays = self._wins.take(course.line_of, course.win_share())
        self._curves = curves_of(self.landscape.costs)
        return Since(counts, won, delays, n_seen, False, *self._met())

    def _met(self) -> tuple[Float64, Float64]:
        """Expected cost and wins by bin of the paced value, over the recent kinds of auctions, (120,) both."""
        kinds = self._kinds if self._kinds.sum() > 0.0 else np.array([1.0, 0.0])
        mix = kinds / kinds.sum()
        return mix @ self._curves.costs, mix @ self._curves.wins

    def _values(self, lines: slice) -> Float64:
        with self._lock:
            return self._course.tally.values[lines].copy()


def warm_kernels() -> None:
    """Compile or load every kernel of pacing; a board without campaigns, goals or promises would call none of them."""
    one, curve, values = np.ones(1), np.linspace(0.0, 1.0, N_VALUE_BINS), np.ones((1, N_VALUE_BINS))
    indptr, premium, steps = np.array([0, 1]), np.zeros(1, np.int64), np.ones(1)
    cap = np.full(1, float(value_place(1.0) + value_bin(1.0)))
    spend, worth = np.empty((1, N_STEPS + 1)), np.empty((1, N_STEPS + 1))
    tabulate_spend(values, cap, premium, curve, spend)
    tabulate_worth(values, cap, premium, curve, worth)
    each = np.ones((2, 1))
    solve_steps(spend, Needs(each, each, one, indptr, each), steps, np.empty(1))
    earning_steps(Earnings(spend, worth, one, one, one), indptr, one, one, steps)
    promise_premiums(Wishes(values, one, one, one, one), curve, steps)


def curves_of(costs: Float64) -> Curves:
    """The curves of expected costs, (2, 120)."""
    wins = np.empty_like(costs)
    for row in range(len(costs)):
        win_curve(costs[row], wins[row])
    return Curves(costs, wins)
