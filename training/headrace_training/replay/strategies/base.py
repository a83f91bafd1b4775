"""What a strategy is told, is asked, and hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headrace.types import Float64
from headrace_training.replay.log import AuctionLog

NO_BID = -1
UNSEEN = -1
"""In place of a price or a click that a strategy may not know."""


@dataclass(frozen=True)
class Start:
    """All that a strategy knows before its first auction.

    budget : of an episode, CPM units.   episode : auctions in it.   first_price : a winner pays its bid.
    prices : (301,) float64, share of auctions by market price; the last holds prices from 300.
    weight : auctions that ``prices`` was counted from; 0 where only their mean is known.
    value  : mean predicted value, NaN where it is not known.
    history : auctions of the past with all prices, None where there are none or prices of lost auctions are censored.
    n_exchanges : how many there are.   seed : of every random choice.
    """

    budget: int
    episode: int
    first_price: bool
    prices: Float64
    weight: float
    value: float
    history: AuctionLog | None
    n_exchanges: int
    seed: int

    @property
    def rate(self) -> float:
        """Budget an auction."""
        return self.budget / self.episode


class Strategy(Protocol):
    """Bids on auctions one at a time; what it learned in one episode may serve it in the next."""

    def begin(self) -> None:
        """An episode begins, with its whole budget."""

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        """The bid in CPM units; above 300 it cannot win, NO_BID is none.

        value : predicted value of the impression.   exchange : a number from 0.
        left : budget left, CPM units.   n_left : auctions left, this one included, >= 1.
        """

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        """How the auction ended that was asked for last.

        bid   : the one that was made, by this strategy or by one that asks it.
        price : the market price; UNSEEN where it is censored, that is when the auction was lost.
        click : 0 or 1 of an auction won, else UNSEEN.
        """
