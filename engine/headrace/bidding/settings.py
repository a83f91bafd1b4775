"""What can be set of bidding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class BiddingConfig:
    """Prices, pacing and patience of the bidder."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"max_ahead_ms", "max_behind_ms"})
    """Keys that change without a restart."""

    # Highest bid of all, micros per thousand impressions (CPM); line items may only ask for less.
    max_bid_cpm_micros: Annotated[int, Meta(ge=1, le=10**12)] = 100_000_000
    # Candidates that are tried for one impression when the ledger refuses the best.
    max_tries: Annotated[int, Meta(ge=1, le=16)] = 4
    # Milliseconds that a request's time may lie ahead of the server's clock.
    max_ahead_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 300_000
    # Milliseconds that it may lie behind.
    max_behind_ms: Annotated[int, Meta(ge=0, le=86_400_000)] = 300_000
    # Milliseconds of the requests' time between two solutions of the pacer.
    solve_every_ms: Annotated[int, Meta(ge=1, le=3_600_000)] = 1_000
    # Impressions after which the pacer solves even sooner.
    solve_every_impressions: Annotated[int, Meta(ge=1, le=1 << 20)] = 4_096
    # Milliseconds after which what the pacer saw of traffic, values and costs counts half.
    half_life_ms: Annotated[int, Meta(ge=60_000, le=604_800_000)] = 3_600_000
    # A line item or campaign that fell behind spends at most so many times its plan's pace to catch up.
    max_catch_up: Annotated[float, Meta(ge=1, le=100)] = 4.0
    # Share of first-price bids that are drawn at random between floor and paced value, to learn and judge win rates.
    explore_share: Annotated[float, Meta(ge=0, le=0.1)] = 0.005
    # What goals go by: "predicted" purchases, or "reported" ones, where those of all line items are told.
    actions: Literal["predicted", "reported"] = "predicted"
    # Milliseconds after a bid for which its purchases may be reported, and for which repeats are told from new ones.
    action_window_ms: Annotated[int, Meta(ge=3_600_000, le=31_536_000_000)] = 2_592_000_000
    # Milliseconds that a purchase is reported after its impression by, on average, before reports have shown it.
    action_delay_ms: Annotated[int, Meta(ge=1, le=2_592_000_000)] = 86_400_000
    # User-written strategies that line items may name, as PATH.py:FUNCTION; the function's name is the strategy's.
    strategies: tuple[str, ...] = ()
    # Highest bid of any strategy, micros per thousand impressions (CPM); 0: max_bid_cpm_micros.
    strategy_max_bid_cpm_micros: Annotated[int, Meta(ge=0, le=10**12)] = 0
    # A strategy may bid at most so many times what the impression is worth.
    strategy_max_over_value: Annotated[float, Meta(gt=0, le=1000)] = 2.0
    # What one strategy's bids may come to in one minute of the requests' time, micros; it then rests; 0: any amount.
    strategy_max_micros_per_minute: Annotated[int, Meta(ge=0, le=10**15)] = 100_000_000
    # File of rates of exchange, for requests in a currency that no campaign has; empty: none, so no bid on them.
    rates_file: str = ""
    # Milliseconds after its as_of from which the file counts as stale: no bid in other currencies until it is replaced.
    rates_max_age_ms: Annotated[int, Meta(ge=60_000, le=2_592_000_000)] = 86_400_000
