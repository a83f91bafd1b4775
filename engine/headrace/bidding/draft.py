"""Answers to a batch in the making: what was ranked, what the ledger said, and why there is no bid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from headrace.bidding.board import Board
from headrace.bidding.requests import BID, BRAKE, BUDGET, Decisions
from headrace.kernels.price import Offers
from headrace.types import Int32, Int64

_T = TypeVar("_T", bound="np.generic[Any]")


@dataclass(slots=True)
class Draft:
    """Answers to i impressions in the making; lists, because a batch may be one request and each value is read once.

    value_cpm : (c,) int64 of the offers.   ranked, bids : i lists of `price_auctions`' t columns.
    winner, bid_cpm, reasons : of i, position among the offers or -1, bid, reason.   tokens : None without a bid.
    given_up : surplus given up by impressions whose bids were drawn, CPM micros.
    """

    value_cpm: Int64
    ranked: list[list[int]]
    bids: list[list[int]]
    winner: list[int]
    bid_cpm: list[int]
    reasons: list[int]
    tokens: list[str | None]
    given_up: dict[int, float]

    @classmethod
    def of(cls, value_cpm: Int64, ranked: Int32, bids: Int64, given_up: dict[int, float]) -> Draft:
        """Nothing reserved yet; where nobody is ranked the reason is the kernel's."""
        rows, prices = ranked.tolist(), bids.tolist()
        n = len(rows)
        reasons = [BID if row[0] >= 0 else -price[0] for row, price in zip(rows, prices, strict=True)]
        return cls(value_cpm, rows, prices, [-1] * n, [0] * n, reasons, [None] * n, given_up)

    def close(self, row: int, reason: int) -> None:
        """No bid for an impression."""
        self.reasons[row], self.winner[row], self.bid_cpm[row], self.tokens[row] = reason, -1, 0, None
        self.given_up.pop(row, None)
        self.ranked[row] = [-1] * len(self.ranked[row])

    def waiting(self, attempt: int) -> list[int]:
        """Impressions that have a candidate for this attempt and nothing reserved."""
        if not attempt and not any(self.reasons):
            return list(range(len(self.reasons)))
        open_for = (BUDGET, BRAKE) if attempt else (BID,)
        return [row for row, reason in enumerate(self.reasons) if reason in open_for and self.ranked[row][attempt] >= 0]

    def settle(self, rows: Sequence[int], attempt: int, tokens: list[str | None], reasons: Sequence[int]) -> None:
        """Take in the ledger's answer for the candidates of one attempt."""
        if not attempt and len(rows) == len(self.tokens) and not any(reasons):
            self.tokens, self.winner = tokens, [best[0] for best in self.ranked]
            self.bid_cpm = [bids[0] for bids in self.bids]
            return
        for row, token, reason in zip(rows, tokens, reasons, strict=True):
            self.tokens[row] = token
            if reason == BID:
                self.winner[row], self.bid_cpm[row] = self.ranked[row][attempt], self.bids[row][attempt]
            # the best candidate's reason is the one to tell
            if reason == BID or attempt == 0:
                self.reasons[row] = reason

    def decide(self, board: Board, version: str, offers: Offers, positions: Int32) -> Decisions:
        """The answers; positions : (c,) int32 of the offers' items."""
        winner = np.array(self.winner, np.int32)

        def won(column: npt.NDArray[_T], none: int) -> npt.NDArray[_T]:
            if not len(column):
                return np.full(len(winner), none, column.dtype)
            found = column[winner]
            found[winner < 0] = none
            return found

        explored = np.zeros(len(winner), bool)
        explored[[row for row in self.given_up if self.winner[row] >= 0]] = True
        return Decisions(
            board=board,
            artifact_version=version,
            reasons=np.array(self.reasons, np.int8),
            tokens=self.tokens,
            bid_cpm=np.array(self.bid_cpm, np.int64),
            lines=won(offers.lines, -1),
            positions=won(positions, -1),
            value_cpm=won(self.value_cpm, 0),
            probability=won(offers.probability, 0),
            explored=explored,
        )


def undecided(board: Board, version: str, n: int, reason: int) -> Decisions:
    """No bid for n impressions, for one reason."""
    return Decisions(
        board=board,
        artifact_version=version,
        reasons=np.full(n, reason, np.int8),
        tokens=[None] * n,
        bid_cpm=np.zeros(n, np.int64),
        lines=np.full(n, -1, np.int32),
        positions=np.full(n, -1, np.int32),
        value_cpm=np.zeros(n, np.int64),
        probability=np.zeros(n),
        explored=np.zeros(n, bool),
    )
