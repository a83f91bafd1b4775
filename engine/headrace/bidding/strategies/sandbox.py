"""What user-written strategies may do to a board: limits on price and spend, and an end to what answers nonsense."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.settings import BiddingConfig
from headrace.bidding.strategies.strategy import Strategy
from headrace.kernels.price import BUILT_IN, N_ASKED, N_PARAMETERS, STOPPED, Strategies
from headrace.types import Int32

MINUTE_MS = 60_000
WRONG_ANSWERS = 100
WRONG_SHARE = 0.01
"""A strategy is switched off when in one minute it gave so many wrong answers, and so large a share of all."""

_log = logging.getLogger("headrace.bidding")


def wrong_answers(name: str, asked: int, wrong: int) -> list[str]:
    """What a trial warns of: answers of a strategy that were no price; nothing where all were."""
    if not wrong:
        return []
    return [f"strategy {name}: {wrong} of {asked} answers were no price (not a number, infinite or below zero): no bid"]


@dataclass(frozen=True, slots=True)
class StrategyState:
    """What became of one strategy since the start.

    asked, wrong, cut : candidates it was asked for; answers that were no price; answers cut to the highest bid.
    bid_micros : what its bids come to, each at its own price.
    held : it reached its spend in this minute and bids no more until the next.
    off : it answered too much nonsense; its line items bid by the built-in rule.
    """

    strategy: Strategy
    asked: int
    wrong: int
    cut: int
    bid_micros: int
    held: bool
    off: bool


class Sandbox:
    """The strategies of one engine. Not thread-safe: the engine calls it under its lock.

    ``rules`` is replaced in whole, never changed, but for the scratch that each batch has of its own; see `scratch`.
    """

    def __init__(self, strategies: Mapping[str, Strategy], config: BiddingConfig, board: Board) -> None:
        self._strategies = list(strategies.values())
        self._most_cpm = config.strategy_max_micros_per_minute * 1000
        self._row_of = {each.name: row for row, each in enumerate(self._strategies)}
        n = len(self._strategies)
        self._minute = 0
        # requests may stray so far from the server's clock; only a clock that was set back goes beyond
        self._stray_minutes = 1 + -(-(config.max_ahead_ms + config.max_behind_ms) // MINUTE_MS)
        self._counts = np.zeros((n, 3), np.int64)
        self._counts_of_minute = np.zeros((n, 3), np.int64)
        self._bid_cpm = np.zeros(n, np.int64)
        self._bid_cpm_of_minute = np.zeros(n, np.int64)
        self._off = np.zeros(n, bool)
        self._held = np.zeros(n, bool)
        self._rows = np.zeros(0, np.int32)
        self.rules = Strategies(
            address=np.array([each.address for each in self._strategies], np.int64),
            shades=np.array([each.shades for each in self._strategies], bool),
            row=self._rows,
            parameters=np.zeros((0, N_PARAMETERS)),
            max_bid_cpm=config.strategy_max_bid_cpm_micros or config.max_bid_cpm_micros,
            max_over_value=config.strategy_max_over_value,
            ask=np.empty((1, N_ASKED)),
            counts=self._counts,
        )
        self.adopt(board)

    def adopt(self, board: Board) -> None:
        """Take over a new board. A line item of a strategy that this process has not does not bid."""
        parameters = np.zeros((board.n_lines, N_PARAMETERS))
        rows = np.full(board.n_lines, BUILT_IN, np.int32)
        for number, line in enumerate(board.line_items):
            if line.strategy:
                row = rows[number] = self._row_of.get(line.strategy, STOPPED)
                if row >= 0:
                    parameters[number] = self._strategies[row].row(line.strategy_parameters)
        self._rows = rows
        self.rules = self.rules._replace(parameters=parameters)
        self._apply()

    def begin(self, now_ms: int) -> Strategies:
        """The rules of one batch, with scratch of its own."""
        if not self._strategies:
            return self.rules
        minute = now_ms // MINUTE_MS
        if minute > self._minute or minute < self._minute - self._stray_minutes:
            self._minute = minute
            self._counts_of_minute[:] = 0
            self._bid_cpm_of_minute[:] = 0
            if self._held.any():
                self._held[:] = False
                self._apply()
        return self.rules._replace(ask=np.empty((1, N_ASKED)), counts=np.zeros_like(self._counts))

    def end(self, rules: Strategies, lines: Int32, winners: Sequence[int], bids_cpm: Sequence[int]) -> None:
        """Take in a batch: the rules that it began with, and its bids.

        lines : (c,) int32 of the offers.   winners : position among the offers of each bid, -1 for none.
        bids_cpm : its price.
        """
        if not self._strategies or not rules.counts.any():
            return
        self._counts += rules.counts
        self._counts_of_minute += rules.counts
        spent = np.zeros_like(self._bid_cpm)
        for winner, bid_cpm in zip(winners, bids_cpm, strict=True):
            row = rules.row[lines[winner]] if winner >= 0 else BUILT_IN
            if row >= 0:
                spent[row] += bid_cpm
        self._bid_cpm += spent
        self._bid_cpm_of_minute += spent
        self._judge()

    def states(self) -> list[StrategyState]:
        """Every strategy, in the order of the configuration."""
        states = []
        for row, each in enumerate(self._strategies):
            asked, wrong, cut = self._counts[row].tolist()
            bid_micros = int(self._bid_cpm[row]) // 1000
            held, off = bool(self._held[row]), bool(self._off[row])
            states.append(StrategyState(each, asked, wrong, cut, bid_micros, held, off))
        return states

    def _judge(self) -> None:
        asked, wrong = self._counts_of_minute[:, 0], self._counts_of_minute[:, 1]
        off = self._off | ((wrong >= WRONG_ANSWERS) & (wrong >= WRONG_SHARE * asked))
        held = self._held | ((self._bid_cpm_of_minute >= self._most_cpm) & (self._most_cpm > 0))
        for row in np.flatnonzero(off & ~self._off).tolist():
            _log.error(
                "strategy %s is switched off: %d of %d answers in a minute were no price; its line items bid by the "
                "built-in rule until the next start",
                self._strategies[row].name,
                wrong[row],
                asked[row],
            )
        if (off != self._off).any() or (held != self._held).any():
            self._off, self._held = off, held
            self._apply()

    def _apply(self) -> None:
        rows: Int32 = self._rows.copy()
        for row in range(len(self._strategies)):
            if self._off[row]:
                rows[self._rows == row] = BUILT_IN
            elif self._held[row]:
                rows[self._rows == row] = STOPPED
        self.rules = self.rules._replace(row=rows if (rows != BUILT_IN).any() else rows[:0])
