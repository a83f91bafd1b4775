"""Bids drawn at random instead of solved for: win rates are learned and judged where no solved bid goes."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.kernels.price import BUILT_IN, Auctions
from headrace.types import Bool, Int32, Int64, UInt64


@njit(nogil=True, cache=True)
def _random(seed: int, turn: int) -> float:
    """A number in [0, 1) that is the same for the same request and turn (SplitMix64; Steele et al., 2014)."""
    mixed = seed + np.uint64(turn + 1) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@njit(nogil=True, cache=True)
def draw_bids(
    seeds: UInt64,
    share: float,
    auctions: Auctions,
    lines: Int32,
    strategy: Int32,
    ranked: Int32,
    bids: Int64,
    explored: Bool,
) -> None:
    """Draw the bids of a share of the first-price auctions evenly from floor to paced value, by the requests' seeds.

    Which auctions, and which bids, depends on a request's seed and an impression's place in it alone.

    seeds : (n,) uint64 of the requests.   auctions : as priced.
    lines : (c,) int32 of the offers.   strategy : (m,) int32 of `Strategies`, or empty; what a user-written strategy
        prices is never drawn.
    ranked : (i, t) int32, -1 where nobody bids.
    bids : (i, t) int64, CPM micros, overwritten where drawn.   explored : (i,) bool, written.
    """
    first = 0
    for auction in range(ranked.shape[0]):
        request = auctions.request[auction]
        if auctions.request[first] != request:
            first = auction
        turn = 2 * (auction - first)
        best = ranked[auction, 0]
        own = best >= 0 and (strategy.shape[0] == 0 or strategy[lines[best]] == BUILT_IN)
        explored[auction] = own and auctions.first_price[auction] and _random(seeds[request], turn) < share
        if explored[auction]:
            lowest = max(auctions.floor_cpm[auction], 1)
            part = _random(seeds[request], turn + 1)
            for place in range(ranked.shape[1]):
                best = ranked[auction, place]
                if best >= 0 and (strategy.shape[0] == 0 or strategy[lines[best]] == BUILT_IN):
                    room = max(auctions.paced_cpm[auction, place] - lowest, 0)
                    bids[auction, place] = lowest + min(int(part * (room + 1)), room)
