"""What is asked, and why there may be no answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.types import Bool, Int32, Int64

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
"""Why there is no bid; the numbers of `headrace.v1.NoBidReason`."""


@dataclass(frozen=True, slots=True)
class BidRequests:
    """n validated requests with i impressions, as columns.

    names : of the persons, as of `headrace.events.identity.subject_name`.
    deadlines : seconds on the clock of ``time.monotonic``.   time_ms : (n,) int64.   first_price : (n,) bool.
    request : (i,) int32 request of each impression, ascending.   floor_cpm : (i,) int64 CPM micros.
    """

    names: Sequence[str]
    countries: Sequence[str]
    categories: Sequence[Sequence[str]]
    segments: Sequence[Sequence[str]]
    exchanges: Sequence[str]
    currencies: Sequence[str]
    deadlines: Sequence[float]
    time_ms: Int64
    first_price: Bool
    request: Int32
    floor_cpm: Int64
