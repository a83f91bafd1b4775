"""From decided batches to the columns of a segment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.decisions.batch import Decided
from headrace.decisions.layout import AUCTION, CANDIDATE, COUNTS, Rows
from headrace.kernels.candidates import mark_highest
from headrace.kernels.price import Market
from headrace.types import Bool, Float64, Int32, Int64


@dataclass(frozen=True, slots=True)
class Block:
    """Auctions of one board, one model and one solution, with what they point to.

    auctions : (n,) AUCTION.   candidates : CANDIDATE.   terms : int32.
    """

    auctions: Rows
    candidates: Rows
    terms: Int32

    def to_bytes(self) -> bytes:
        """The payload of a frame of auctions."""
        counts = COUNTS.pack(len(self.auctions), len(self.candidates), len(self.terms))
        return counts + self.auctions.tobytes() + self.candidates.tobytes() + self.terms.tobytes()

    @classmethod
    def of_bytes(cls, payload: bytes) -> Block:
        """The block of such a payload; its arrays are views."""
        n_auctions, n_candidates, n_terms = COUNTS.unpack_from(payload)
        at = COUNTS.size
        auctions = np.frombuffer(payload, AUCTION, n_auctions, at)
        at += auctions.nbytes
        candidates = np.frombuffer(payload, CANDIDATE, n_candidates, at)
        at += candidates.nbytes
        return cls(auctions, candidates, np.frombuffer(payload, "<i4", n_terms, at))


def digest(name: str) -> bytes:
    """What a record knows a bid's token, or an action, by, 16 bytes: nobody can tell of a bid with that."""
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def win_rate_at(market: Market, rows: Int32, bids_cpm: Int64) -> Float64:
    """Share of auctions that each bid wins by its row of the market, (n,) float64; see `Market`."""
    edges, bids = market.edges_cpm, bids_cpm.astype(np.float64)
    left = np.clip(np.searchsorted(edges, bids, side="right") - 1, 0, len(edges) - 2)
    low, high = market.win_rate[rows, left], market.win_rate[rows, left + 1]
    share = np.clip((bids - edges[left]) / (edges[left + 1] - edges[left]), 0.0, 1.0)
    return np.where(bids < edges[0], 0.0, low + (high - low) * share)


def block_of(
    group: Sequence[Decided], n_before: int, weights: Float64, limit: int
) -> tuple[Block, list[str], list[str]]:
    """The kept impressions of batches that share board, model and terms; the exchange and the placement of each.

    n_before : requests of the process before the first of these.
    weights : of the i impressions; one of 0 is left out.   limit : candidates of an impression, at most.

    ``board``, ``model``, ``solution``, ``exchange`` and ``placement`` are left 0, for whoever numbers them.
    """
    kept = np.flatnonzero(weights > 0.0)
    if not len(kept):
        return Block(np.zeros(0, AUCTION), np.zeros(0, CANDIDATE), np.zeros(0, np.int32)), [], []
    wide = _Wide(group)
    auctions = np.zeros(len(kept), AUCTION)
    auctions["weight"] = weights[kept]
    auctions["request"] = n_before + wide.request[kept]
    auctions["impression"] = kept - np.searchsorted(wide.request, wide.request[kept])
    candidates, owner = wide.candidates(kept, limit)
    auctions["n_candidates"] = np.bincount(owner, minlength=len(kept))
    auctions["candidate_start"] = _starts(auctions["n_candidates"])
    _put_chosen(auctions, wide, kept)
    terms = _put_requests(auctions, group, wide.request[kept])
    market_rows = _joined([each.auctions.market_row for each in group])
    auctions["market_row"] = market_rows[kept]
    rates = win_rate_at(group[0].model.market, auctions["market_row"], auctions["bid_cpm"])
    auctions["win_rate"] = np.where(auctions["bid_cpm"] > 0, rates, 0.0)
    auctions["floor_cpm"] = _joined([each.auctions.floor_cpm for each in group])[kept]
    auctions["first_price"] = _joined([each.auctions.first_price for each in group])[kept]
    explored = [[row in each.draft.given_up for row in range(len(each.draft.reasons))] for each in group]
    auctions["explored"] = _flat(explored)[kept]
    tokens = list(chain.from_iterable(each.draft.tokens for each in group))
    known = b"".join(_NOBODY if tokens[row] is None else digest(tokens[row] or "") for row in kept.tolist())
    auctions["token"] = np.frombuffer(known, "V16")
    exchanges = list(chain.from_iterable(each.requests.exchanges for each in group))
    placements = list(chain.from_iterable(each.requests.placements for each in group))
    of_request = wide.request[kept].tolist()
    words = [exchanges[row] for row in of_request], [placements[row] for row in kept.tolist()]
    return Block(auctions, candidates, terms), *words


_NOBODY = bytes(16)
_PRICED = 1e300
"""Beyond any paced value."""


class _Wide:
    """The candidates of several batches, laid end to end.

    request, reason, bid_cpm, winner, ranked, bids : of all impressions; the last two (i, t).
    first_offer, n_offers : of all requests.   All else is of all offers.
    """

    def __init__(self, group: Sequence[Decided]) -> None:
        self.terms = group[0].terms
        n_requests = np.array([len(each.asked.time_ms) for each in group])
        n_impressions = np.array([len(each.draft.reasons) for each in group])
        before = _starts([len(each.offers.lines) for each in group])
        self.request = _joined([each.auctions.request for each in group]).astype(np.int64)
        self.request += np.repeat(_starts(n_requests), n_impressions)
        self.n_offers = _widths([each.offers.indptr for each in group])
        self.first_offer = _starts(self.n_offers)
        self.lines = _joined([each.offers.lines for each in group])
        self.positions = _joined([each.positions for each in group])
        self.probability = _joined([each.offers.probability for each in group])
        self.value_cpm = _joined([each.draft.value_cpm for each in group])
        self.reason = _flat(each.draft.reasons for each in group)
        self.bid_cpm = _flat(each.draft.bid_cpm for each in group)
        moved = np.repeat(before, n_impressions)
        winner, ranked = _flat(each.draft.winner for each in group), _joined([each.draft.ranked for each in group])
        self.winner = np.where(winner >= 0, winner + moved, -1)
        self.ranked = np.where(ranked >= 0, ranked + moved[:, None], -1)
        self.bids = _joined([each.draft.bids for each in group])

    def candidates(self, kept: npt.NDArray[np.intp], limit: int) -> tuple[Rows, npt.NDArray[np.intp]]:
        """The candidates of some impressions, ascending as offered, and whose each is."""
        first, counts = self.first_offer[self.request[kept]], self.n_offers[self.request[kept]]
        start = _starts(counts)
        owner = np.repeat(np.arange(len(kept)), counts)
        offer = np.arange(len(owner)) - start[owner] + first[owner]
        rank, bid_cpm = np.full(len(owner), -1, np.int64), np.zeros(len(owner), np.int64)
        ranked = self.ranked[kept]
        whose, place = np.nonzero(ranked >= 0)
        at = ranked[whose, place] - first[whose] + start[whose]
        rank[at], bid_cpm[at] = place, self.bids[kept][whose, place]
        if len(counts) and counts.max() > limit:
            chosen = self._highest(offer, rank, counts, limit)
            owner, offer, rank, bid_cpm = owner[chosen], offer[chosen], rank[chosen], bid_cpm[chosen]
        line = self.lines[offer]
        rows = np.zeros(len(owner), CANDIDATE)
        rows["line"], rows["position"] = line, self.positions[offer]
        rows["probability"], rows["value_cpm"] = self.probability[offer], self.value_cpm[offer]
        rows["multiplier"], rows["premium_cpm"] = self.terms.multiplier[line], self.terms.premium_cpm[line]
        rows["affordable_cpm"] = np.where(self.terms.exhausted[line], 0, self.terms.affordable_cpm[line])
        rows["rank"], rows["bid_cpm"] = rank, bid_cpm
        return rows, owner

    def _highest(self, offer: Int64, rank: Int64, counts: Int64, limit: int) -> Bool:
        """Those that were priced, by their rank, then those with the highest paced value, so many of each owner."""
        line = self.lines[offer]
        worth = (self.value_cpm[offer] + self.terms.premium_cpm[line]) * self.terms.multiplier[line]
        paced = np.minimum(worth, self.terms.max_bid_cpm[line])
        chosen = np.zeros(len(offer), np.bool_)
        mark_highest(np.where(rank >= 0, _PRICED / (1.0 + np.abs(rank)), paced), counts, limit, chosen)
        return chosen


def warm_columns() -> None:
    """Compile or load the kernel of records; short lists of candidates would not call it."""
    mark_highest(np.ones(1), np.ones(1, np.int64), 1, np.zeros(1, np.bool_))


def _put_chosen(auctions: Rows, wide: _Wide, kept: npt.NDArray[np.intp]) -> None:
    winner = wide.winner[kept]
    there = np.flatnonzero(winner >= 0)
    auctions["reason"], auctions["bid_cpm"] = wide.reason[kept], wide.bid_cpm[kept]
    auctions["line"] = -1
    auctions["line"][there] = wide.lines[winner[there]]
    auctions["value_cpm"][there] = wide.value_cpm[winner[there]]
    auctions["probability"][there] = wide.probability[winner[there]]
    auctions["n_offers"] = wide.n_offers[wide.request[kept]]


def _put_requests(auctions: Rows, group: Sequence[Decided], request: Int64) -> Int32:
    """What belongs to the requests of the auctions; returns the words of them all."""
    auctions["time_ms"] = _joined([each.asked.time_ms for each in group])[request]
    auctions["seed"] = _joined([each.requests.seeds for each in group])[request]
    auctions["currency"] = _joined([each.asked.currency_rows for each in group])[request]
    keys = [each.subject_keys if len(each.subject_keys) else np.zeros_like(each.asked.time_ms) for each in group]
    auctions["subject"] = _joined(keys)[request]
    sizes = [len(each.asked.time_ms) for each in group]
    auctions["sequence"] = np.repeat([each.sequence for each in group], sizes)[request]
    counts = _joined([each.matches.counts for each in group])[request]
    auctions["n_fit"], auctions["n_payable"] = counts[:, 0], counts[:, 1]
    auctions["n_matched"] = _widths([each.matches.indptr for each in group])[request]
    used, place = np.unique(request, return_inverse=True)
    by_dimension = _widths([each.asked.term_indptr for each in group]).reshape(-1, 3)
    auctions["n_terms"] = by_dimension[request]
    first, n_terms = _starts(by_dimension.sum(axis=1))[used], by_dimension.sum(axis=1)[used]
    start = _starts(n_terms)
    auctions["term_start"] = start[place]
    at = np.arange(n_terms.sum()) + np.repeat(first - start, n_terms)
    terms: Int32 = _joined([each.asked.terms for each in group])[at].astype("<i4")
    return terms


def _widths(pointers: Sequence[npt.NDArray[Any]]) -> Int64:
    """Lengths of the stretches that each batch's row pointers bound, laid end to end."""
    widths = np.diff(_joined(pointers)).astype(np.int64)
    ends = np.cumsum([len(each) for each in pointers])[:-1] - 1
    return np.delete(widths, ends) if len(ends) else widths


def _flat(parts: Iterable[Sequence[Any]]) -> Int64:
    return np.array(list(chain.from_iterable(parts)), np.int64)


def _starts(counts: Any) -> Int64:
    """Where stretches of given lengths begin."""
    lengths = np.asarray(counts, np.int64)
    starts: Int64 = np.cumsum(lengths) - lengths
    return starts


def _joined(arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
