"""What the bidding path hands over of a batch that it has decided, and to whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from headrace.types import Float64, Int32, Int64

if TYPE_CHECKING:
    from headrace.bidding.board import Board
    from headrace.bidding.draft import Draft
    from headrace.bidding.match import Matches
    from headrace.bidding.requests import BidRequests
    from headrace.kernels.match import Asked
    from headrace.kernels.price import Auctions, Market, Offers, Terms


Amounts = Sequence[int | None]


@dataclass(frozen=True)
class RecordedModel:
    """What was known of prices and traffic; without the factors, so that no record keeps an old artifact in memory.

    market : win rates by price when the file was begun, or the artifact changed.   exchanges : its rows by name.
    profile : (168,) float64.   curves : win rates of the rows that have been learned anew since.
    """

    version: str
    market: Market
    exchanges: dict[str, int]
    profile: Float64
    curves: Mapping[int, Float64] = field(default_factory=dict)

    def curve(self, row: int) -> tuple[Float64, Float64]:
        """Edges and win rates of a row of the market; those of all together for a row that is not recorded."""
        rates = self.curves.get(row)
        if rates is None:
            rates = self.market.win_rate[row if row < len(self.market.win_rate) else 0]
        return self.market.edges_cpm, rates


class Decided(NamedTuple):
    """A batch as it was decided: nothing in it is changed any more.

    positions : (c,) int32 of the offers' items.   subject_keys : (n,) int64, 0 for strangers; or empty.
    sequence : the last event of the log that the persons' state had seen.
    """

    requests: BidRequests
    board: Board
    model: RecordedModel
    terms: Terms
    asked: Asked
    matches: Matches
    offers: Offers
    positions: Int32
    auctions: Auctions
    draft: Draft
    subject_keys: Int64
    sequence: int


class Action(NamedTuple):
    """A purchase that is attributed to a bid's impression.

    action : digest of the caller's own name of it, hexadecimal.   time_ms : when it happened, as the caller says.
    n : how many; below zero: taken back.   worth_micros : of each, in the campaign's currency; 0: as the line
    item says.
    """

    action: str
    token: str
    time_ms: int
    n: int
    worth_micros: int


class Recorder(Protocol):
    """Hears of decisions and of what became of them; never waits and never raises."""

    def decided(self, batch: Decided) -> None:
        """Take a decided batch."""

    def withdrawn(self, tokens: Sequence[str]) -> None:
        """Take bids that nobody was told of."""

    def heard(self, kinds: Sequence[int], tokens: Sequence[str], prices_cpm: Amounts, minimums_cpm: Amounts) -> None:
        """Take accepted notices: NoticeType, token, what is paid and what would have won, None where not known."""

    def acted(self, actions: Sequence[Action]) -> None:
        """Take accepted actions."""


class NoRecorder:
    """Keeps nothing."""

    def decided(self, batch: Decided) -> None:
        """See `Recorder`."""

    def withdrawn(self, tokens: Sequence[str]) -> None:
        """See `Recorder`."""

    def heard(self, kinds: Sequence[int], tokens: Sequence[str], prices_cpm: Amounts, minimums_cpm: Amounts) -> None:
        """See `Recorder`."""

    def acted(self, actions: Sequence[Action]) -> None:
        """See `Recorder`."""
