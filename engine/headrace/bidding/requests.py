"""What is asked, what is answered, and why there may be no bid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from headrace.types import Bool, Float64, Int8, Int32, Int64, UInt64

if TYPE_CHECKING:
    from headrace.bidding.board import Board

BID = 0
NO_MATCH = 1
BUDGET = 2
BELOW_FLOOR = 3
LEDGER_NOT_OWNER = 4
BRAKE = 5
JOURNAL_UNAVAILABLE = 6
INSUFFICIENT_TIME = 7
CURRENCY = 8
PACED = 9
FENCED = 10
STRATEGY = 11
AUTHORITY_UNREACHABLE = 12
"""Why there is no bid; the numbers of `headrace.v1.NoBidReason`."""


class Words(Protocol):
    """What n requests say of themselves in words that a board knows by number."""

    def terms(self, board: Board) -> tuple[Int32, Int32, Int32]:
        """Term indptr (3 n + 1,), terms and currency rows (n,), all int32, of `headrace.kernels.match.Asked`.

        Words that no line item uses are dropped; a currency that no campaign has is row ``len(board.currencies)``.
        """


@dataclass(frozen=True, slots=True)
class PlainWords:
    """`Words` from Python strings, one entry a request; empty where nothing is said, but a currency is always named."""

    countries: Sequence[str]
    categories: Sequence[Sequence[str]]
    segments: Sequence[Sequence[str]]
    currencies: Sequence[str]

    def terms(self, board: Board) -> tuple[Int32, Int32, Int32]:
        """See `Words`."""
        country_rows, category_rows, segment_rows = board.vocabularies
        terms: list[int] = []
        indptr = [0]
        for country, category, segment in zip(self.countries, self.categories, self.segments, strict=True):
            if country in country_rows:
                terms.append(country_rows[country])
            indptr.append(len(terms))
            terms.extend(category_rows[word] for word in category if word in category_rows)
            indptr.append(len(terms))
            terms.extend(segment_rows[word] for word in segment if word in segment_rows)
            indptr.append(len(terms))
        none = len(board.currencies)
        currency_rows = [board.currencies.get(currency, none) for currency in self.currencies]
        return np.array(indptr, np.int32), np.array(terms, np.int32), np.array(currency_rows, np.int32)


@dataclass(frozen=True, slots=True)
class BidRequests:
    """n validated requests with i impressions, as columns.

    names : of the persons, as of `headrace.events.identity.subject_name`; empty for a stranger.
    words : countries, categories, segments and currencies; `PlainWords` or a codec's own.
    exchanges : names, empty where none is said.
    deadlines : (n,) float64, seconds on the clock of ``time.monotonic``; infinite where there is none.
    time_ms : (n,) int64, ms since 1970 UTC, never 0.   first_price : (n,) bool.
    seeds : (n,) uint64, `headrace._native.hash_texts` of the bid request ids: what is random about a request.
    request : (i,) int32 request of each impression, ascending.   floor_cpm : (i,) int64, CPM micros; 0: none.
    placements : of the impressions, empty where none is said.
    rates : (n,) int64, micros of the campaigns' currency for one unit of the request's; None: all the same currency.
    """

    names: Sequence[str]
    words: Words
    exchanges: Sequence[str]
    deadlines: Float64
    time_ms: Int64
    first_price: Bool
    seeds: UInt64
    request: Int32
    floor_cpm: Int64
    placements: Sequence[str]
    rates: Int64 | None = None


@dataclass(frozen=True, slots=True)
class Decisions:
    """Answers to i impressions, in their order.

    reasons : (i,) int8, 0 where there is a bid.   tokens : None where there is none.
    bid_cpm : (i,) int64, CPM micros, 0 where there is none.
    lines : (i,) int32 rows of ``board``, -1 for none; ``board.names[line]`` has campaign, line item and advertiser.
    positions : (i,) int32 place of the item in its line item; ``board.item_id(line, position)``.
    value_cpm : (i,) int64, CPM micros before pacing.   probability : (i,) float64.
    explored : (i,) bool, the bid was drawn at random, see `bidding.explore_share`.
    """

    board: Board
    artifact_version: str
    reasons: Int8
    tokens: list[str | None]
    bid_cpm: Int64
    lines: Int32
    positions: Int32
    value_cpm: Int64
    probability: Float64
    explored: Bool
