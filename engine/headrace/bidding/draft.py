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
    """Answers to i impressions in the making; lists where a value is read once, as a batch may be one request.

    value_cpm : (c,) int64 of the offers.   ranked, bids : (i, t) of `price_auctions`.
    winner, bid_cpm, reasons : of i, position among the offers or -1, bid, reason.   tokens : None without a bid.
    given_up : surplus given up by impressions whose bids were drawn, CPM micros.
    """

    value_cpm: Int64
    ranked: Int32
    bids: Int64
    winner: list[int]
    bid_cpm: list[int]
    reasons: list[int]
    tokens: list[str | None]
    given_up: dict[int, float]

    @classmethod
    def of(cls, value_cpm: Int64, ranked: Int32, bids: Int64, given_up: dict[int, float]) -> Draft:
        """Nothing reserved yet; where nobody is ranked the reason is the kernel's."""
        n, first = len(ranked), ranked[:, 0].tolist()
        reasons = [BID] * n
        if n and min(first) < 0:
            reasons = [BID if at >= 0 else -bid for at, bid in zip(first, bids[:, 0].tolist(), strict=True)]
        return cls(value_cpm, ranked, bids, [-1] * n, [0] * n, reasons, [None] * n, given_up)

    def close(self, row: int, reason: int) -> None:
        """No bid for an impression."""
        self.reasons[row], self.winner[row], self.bid_cpm[row], self.tokens[row] = reason, -1, 0, None
        self.given_up.pop(row, None)
        self.ranked[row] = -1

    def waiting(self, attempt: int) -> list[int]:
        """Impressions that have a candidate for this attempt and nothing reserved."""
        if not any(self.reasons):
            return [] if attempt else list(range(len(self.reasons)))
        open_for = (BUDGET, BRAKE) if attempt else (BID,)
        ranked = self.ranked[:, attempt].tolist()
        return [row for row, reason in enumerate(self.reasons) if reason in open_for and ranked[row] >= 0]

    def candidates(self, rows: Sequence[int], attempt: int) -> tuple[Int32, Int64]:
        """Positions among the offers and bids of an attempt."""
        if len(rows) == len(self.ranked):
            return self.ranked[:, attempt], self.bids[:, attempt]
        return self.ranked[rows, attempt], self.bids[rows, attempt]

    def settle(self, rows: Sequence[int], attempt: int, tokens: list[str | None], reasons: Sequence[int]) -> None:
        """Take in the ledger's answer for the candidates of one attempt."""
        if not attempt and len(rows) == len(self.tokens) and not any(reasons):
            self.tokens, self.winner, self.bid_cpm = tokens, self.ranked[:, 0].tolist(), self.bids[:, 0].tolist()
            return
        for row, token, reason in zip(rows, tokens, reasons, strict=True):
            self.tokens[row] = token
            if reason == BID:
                self.winner[row], self.bid_cpm[row] = self.ranked.item(row, attempt), self.bids.item(row, attempt)
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
