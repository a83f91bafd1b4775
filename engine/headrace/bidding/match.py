"""From the words of requests to the line items that they may show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.bidding.board import Board
from headrace.bidding.requests import BidRequests
from headrace.kernels.match import Asked, Targets, match_requests
from headrace.types import Int32, Int64

_ROOM = 64
"""Candidates a request for which room is made at first."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Candidates of n requests: ``lines[indptr[r]:indptr[r + 1]]``, ascending.

    counts : (n, 2) int32. Line items whose targeting fits, and those among them in the request's currency.
    """

    indptr: Int64
    lines: Int32
    counts: Int32


def ask(board: Board, requests: BidRequests, hour_rows: Int32) -> Asked:
    """What n requests say, in the numbers of a board."""
    term_indptr, terms, currency_rows = requests.words.terms(board)
    return Asked(term_indptr, terms, hour_rows, currency_rows, requests.time_ms)


def match(board: Board, targets: Targets, asked: Asked) -> Matches:
    """The line items of each request: targeting fits, currency is right, in flight and not paused."""
    n = len(asked.time_ms)
    counts = np.empty((n, 2), np.int32)
    indptr = np.empty(n + 1, np.int64)
    lines = np.empty(n * min(board.n_lines, _ROOM), np.int32)
    total = match_requests(targets, asked, counts, indptr, lines)
    if total > len(lines):
        lines = np.empty(total, np.int32)
        match_requests(targets, asked, counts, indptr, lines)
    return Matches(indptr, lines[:total], counts)
