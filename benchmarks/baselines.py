"""Simple bidding rules to compare with, as user-written strategies."""

from headrace import Ask, strategy


@strategy
def linear(ask: Ask, share: float = 1.0) -> float:
    """Always the same share of the value."""
    return min(share * ask.value_cpm, ask.highest_cpm)


@strategy
def constant(ask: Ask, bid_cpm: float = 1_000_000) -> float:
    """Always the same bid, whatever the impression is worth."""
    return min(bid_cpm, ask.highest_cpm)
