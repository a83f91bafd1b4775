"""Goals of spend and promises of impressions: what was earned and won so far, and what that asks of the next bids."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from headrace.bidding.board import Aims, Board
from headrace.bidding.pacing.delay import Delay
from headrace.bidding.pacing.experience import moved
from headrace.kernels.goals import Earnings, Wishes, earning_steps, promise_premiums
from headrace.kernels.pace import TOP_STEPS
from headrace.types import Bool, Float64, Int64

NANOS_PER_MICRO = 1000.0
EVEN_OUT_MS = 21_600_000
"""A balance is evened out over six hours of expected traffic."""
MOST_CREDIT = 0.1
"""Of what was earned above a goal, at most this share of a day's spend may be used up later."""
DAY_MS = 86_400_000
PRIOR_ACTIONS = 20.0
"""Predicted purchases that are taken as having come true, before reports say otherwise."""
FADING_MS = 2_419_200_000
"""What was predicted and reported counts half after four weeks: models and prices change."""
LEAST_CALIBRATION, MOST_CALIBRATION = 0.1, 10.0
NO_STEP = float(TOP_STEPS)


class Market(NamedTuple):
    """What m line items meet.

    spend, worth : (m, 89) of the pacing kernels, corrected by what was real, nanos of one matched impression.
    window : (m,) matched impressions expected over `EVEN_OUT_MS`.   n_wins : (m,) float64 seen lately.
    """

    spend: Float64
    worth: Float64
    window: Float64
    n_wins: Float64


class Counted(NamedTuple):
    """Reported actions: their number in the store, whose bid it is, when that was made, and when they were reported.

    n : how many, below zero where they were taken back.   worth_micros : of each; 0: as the line item says.
    """

    number: int
    account: int
    issued_ms: int
    came_ms: int
    n: int
    worth_micros: int


class Goals:
    """What m line items earned while their goals were in force.

    reported : whether the purchases of all line items are reported; otherwise they are those predicted.

    credit : (2, m) float64. Nanos of spend that a nano of worth allows: by its own goals, by its campaign's; 0 without.
    worth, spent : (m,) nanos since the goals were last changed.   lately : (m,) spend of about a day.
    won : (2, m) impressions, of the local day and in all; row 1 since the guarantee is in force.
    due, actions : (m,) predicted purchases whose reports are due, and reported ones.   pending : (m,) not due yet.
    earned : (m,) what the reported ones were worth, in times what the line item says that one is.
    delay : how long reports take.
    since_ms : of bids made from then on predicted purchases were counted.   heard : number of the last action counted.
    least_step : (m,) float64. Where the search for a multiplier begins: at 16 with a goal, else at 1.
    """

    KEPT = ("worth", "spent", "lately", "won", "due", "actions", "earned", "pending")

    def __init__(self, board: Board, reported: bool = False, delay: Delay | None = None) -> None:
        m = board.n_lines
        self._asked = asked_of(board)
        self.credit: Float64 = _tightest(self._asked)
        self.worth, self.spent, self.lately = np.zeros(m), np.zeros(m), np.zeros(m)
        self.won: Float64 = np.zeros((2, m))
        self.due, self.actions, self.earned, self.pending = np.zeros(m), np.zeros(m), np.zeros(m), np.zeros(m)
        self.reported, self.since_ms, self.heard = reported, 0, 0
        self.delay = delay or Delay(DAY_MS)
        self._board = board
        self.lines: Bool = np.asarray(self.credit.any(axis=0), bool)
        self.least_step: Float64 = np.where(self.lines, 0.0, NO_STEP)
        self.promised: Int64 = np.flatnonzero(board.promises.impressions.any(axis=0))

    def for_board(self, board: Board, lines: Int64) -> Goals:
        """The same for another board; entry i comes from line item lines[i]. Balances of changed goals begin anew."""
        result = Goals(board, self.reported, self.delay)
        for name in self.KEPT:
            setattr(result, name, moved(getattr(self, name), lines))
        changed = (moved(self.credit, lines) != result.credit).any(axis=0)
        for kept in (result.worth, result.spent, result.lately):
            kept[changed] = 0.0
        result.since_ms, result.heard = self.since_ms, self.heard
        return result

    def new_day(self, lines: Bool) -> None:
        """The local day of some line items, (m,) bool, begins."""
        self.won[0, lines] = 0.0

    def left(self) -> Float64:
        """(2, m) impressions promised and not yet won, of the day and of the flight; infinite where none are."""
        promised = self._board.promises.impressions
        return np.where(promised > 0, np.maximum(promised - self.won, 0.0), np.inf)

    def add(self, elapsed_ms: float, delay_ms: float, real: Float64) -> None:
        """Let time pass: (3, m) nanos spent, impressions won and their worth in nanos.

        delay_ms : how long reports of purchases take on average.
        """
        spent, won, worth = real
        goal = self.lines
        self.worth += np.where(goal, worth, 0.0)
        self.spent += np.where(goal, spent, 0.0)
        self.lately = self.lately * np.exp(-elapsed_ms / DAY_MS) + np.where(goal, spent, 0.0)
        self.won += won
        if self.reported:
            each = self._board.worth_micros * NANOS_PER_MICRO
            self.pending += np.divide(worth, each, out=np.zeros_like(worth), where=each > 0)
            ripe = self.pending * -np.expm1(-elapsed_ms / delay_ms)
            self.pending -= ripe
            left = 0.5 ** (elapsed_ms / FADING_MS)
            self.due, self.actions, self.earned = self.due * left + ripe, self.actions * left, self.earned * left

    def report(self, line: int, action: Counted) -> None:
        """Count reported purchases of a line item, -1 for one that is gone."""
        self.heard = max(self.heard, action.number)
        if line < 0 or action.issued_ms < self.since_ms:
            return
        if action.n > 0:
            self.delay.heard(action.issued_ms, action.came_ms, action.n)
        own = int(self._board.worth_micros[line])
        self.actions[line] += action.n
        self.earned[line] += action.n * (action.worth_micros / own if action.worth_micros and own else 1.0)

    def calibration(self) -> tuple[Float64, Float64]:
        """Reported over predicted purchases, and the same of what they are worth, (m,) both; each is shrunk to the
        campaign's, that to everybody's, and that to 1."""
        return self._calibrated(self.actions), self._calibrated(self.earned)

    def _calibrated(self, reported: Float64) -> Float64:
        of, k = self._board.campaign_of, len(self._board.campaigns)
        if not self.reported:
            return np.ones(len(of))
        came = np.maximum(reported, 0.0)  # what was taken back may have been reported before counting began
        due, by_campaign = np.bincount(of, self.due, k), np.bincount(of, came, k)
        every = (by_campaign.sum() + PRIOR_ACTIONS) / (due.sum() + PRIOR_ACTIONS)
        campaign = (by_campaign + PRIOR_ACTIONS * every) / (due + PRIOR_ACTIONS)
        result = (came + PRIOR_ACTIONS * campaign[of]) / (self.due + PRIOR_ACTIONS)
        return np.asarray(np.clip(result, LEAST_CALIBRATION, MOST_CALIBRATION), np.float64)

    def allowed(self) -> Float64:
        """(2, m) ``credit`` of predicted worth as it comes true: a cost counts purchases, a return what they are
        worth."""
        if not self.reported:
            return self.credit
        actions, worth = self.calibration()
        return _tightest(self._asked * np.stack([worth, actions])[:, None, :])

    def steps(self, market: Market) -> tuple[Float64, Float64]:
        """Steps that keep the goals: (m,) of line items, (k,) common to a campaign's; see `earning_steps`."""
        board, least = self._board, self.least_step
        m, k = board.n_lines, len(board.campaigns)
        own, common = np.zeros(m), np.zeros(k)
        if self.lines.any():
            allowed = self.allowed()
            of, most = board.campaign_of, MOST_CREDIT * self.lately
            earned = allowed * self.worth - np.where(self.credit > 0.0, self.spent, 0.0)
            earnings = [Earnings(market.spend, market.worth, market.window, row, market.n_wins) for row in allowed]
            earning_steps(earnings[0], np.arange(m + 1), np.minimum(earned[0], most), least, own)
            balance = np.minimum(np.bincount(of, earned[1], k), np.bincount(of, most, k))
            earning_steps(earnings[1], board.campaign_indptr, balance, np.maximum(least, own), common)
        return np.maximum(own, least), common

    def premiums(self, wishes: Wishes, wins: Float64) -> Int64:
        """(m,) CPM micros; ``wishes`` are those of the line items ``promised``."""
        result = np.zeros(self._board.n_lines, np.int64)
        out = np.empty(len(self.promised))
        promise_premiums(wishes, wins, out)
        result[self.promised] = np.ceil(out).astype(np.int64)
        return result


def asked_of(board: Board) -> Float64:
    """(2, 2, m) spend that a unit of predicted worth allows: by a return asked for (its inverse) and by a cost per
    action (its share of what one is worth), of the line item's own goals and its campaign's; infinite without."""
    of = board.campaign_of
    owners = Aims(board.campaign_aims.cpa_micros[of], board.campaign_aims.roas[of])
    return np.stack([_asked(board.aims, board.worth_micros), _asked(owners, board.worth_micros)], axis=1)


def _tightest(asked: Float64) -> Float64:
    credit = asked.min(axis=0)
    return np.where(np.isfinite(credit), credit, 0.0)


def _asked(aims: Aims, worth_micros: Int64) -> Float64:
    worth = np.maximum(worth_micros, 1)
    by_return = np.divide(1.0, aims.roas, out=np.full(len(worth), np.inf), where=aims.roas > 0.0)
    by_cost = np.where(aims.cpa_micros > 0, aims.cpa_micros / worth, np.inf)
    return np.stack([by_return, by_cost])
