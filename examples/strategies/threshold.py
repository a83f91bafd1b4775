"""Bid as the engine would, but only on impressions that are worth enough."""

from headrace import Ask, strategy


@strategy
def threshold(ask: Ask, least_value_cpm: float = 2_000_000) -> float:
    """The engine's own bid where the impression is worth at least so many CPM micros; else none."""
    if ask.value_cpm < least_value_cpm:
        return 0.0
    return ask.shaded_cpm
