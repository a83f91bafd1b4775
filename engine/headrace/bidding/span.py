"""When the requests of a batch are."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.bidding.board import QUARTER_MS
from headrace.bidding.requests import BidRequests


@dataclass(frozen=True, slots=True)
class Span:
    """When a batch's requests are, and whose its impressions are.

    time_ms : of n requests.   request : of i impressions.   last_ms : the latest time; 0 of an empty batch.
    first_deadline : the earliest.
    """

    time_ms: list[int]
    request: list[int]
    last_ms: int
    first_deadline: float

    @classmethod
    def of(cls, requests: BidRequests) -> Span:
        times = requests.time_ms.tolist()
        return cls(times, requests.request.tolist(), max(times), min(requests.deadlines.tolist()))

    def requests_of(self, rows: list[int]) -> list[int]:
        """Whose impressions these are."""
        return self.request if len(rows) == len(self.request) else [self.request[row] for row in rows]

    def by_quarter(self, rows: list[int]) -> list[list[int]]:
        """Impressions to reserve for in one call: all of them, unless a budget day may end between them."""
        if min(self.time_ms) // QUARTER_MS == self.last_ms // QUARTER_MS:
            return [rows]
        parts: dict[int, list[int]] = {}
        for row in rows:
            parts.setdefault(self.time_ms[self.request[row]] // QUARTER_MS, []).append(row)
        return [parts[quarter] for quarter in sorted(parts)]
