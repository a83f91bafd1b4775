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
    """Intern the words of n requests; words that no line item uses are dropped."""
    country_rows, category_rows, segment_rows = board.vocabularies
    columns = zip(requests.countries, requests.categories, requests.segments, strict=True)
    terms: list[int] = []
    indptr = [0]
    for country, category, segment in columns:
        if country in country_rows:
            terms.append(country_rows[country])
        indptr.append(len(terms))
        terms.extend(category_rows[word] for word in category if word in category_rows)
        indptr.append(len(terms))
        terms.extend(segment_rows[word] for word in segment if word in segment_rows)
        indptr.append(len(terms))
    none = len(board.currencies)
    return Asked(
        term_indptr=np.array(indptr, np.int32),
        terms=np.array(terms, np.int32),
        hour_rows=hour_rows,
        currency_rows=np.array([board.currencies.get(currency, none) for currency in requests.currencies], np.int32),
        time_ms=requests.time_ms,
    )


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
