"""Why an impression was bid on or not, computed anew from its record, and what would have won."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from headrace.bidding.validation import week_bits
from headrace.decisions.lookup import Decision
from headrace.decisions.prices import median_price
from headrace.kernels.price import MAX_VALUE_CPM, shade
from headrace.v1 import bidder_pb2 as pb

_DIMENSIONS = (
    ("countries", pb.CANDIDATE_REASON_COUNTRY),
    ("categories", pb.CANDIDATE_REASON_CATEGORY),
    ("user_segments", pb.CANDIDATE_REASON_SEGMENT),
)
_FURTHEST = (
    pb.CANDIDATE_REASON_BID,
    pb.CANDIDATE_REASON_REFUSED,
    pb.CANDIDATE_REASON_LATE,
    pb.CANDIDATE_REASON_OUTRANKED,
    pb.CANDIDATE_REASON_PACED,
    pb.CANDIDATE_REASON_STRATEGY,
    pb.CANDIDATE_REASON_BELOW_FLOOR,
    pb.CANDIDATE_REASON_UNAFFORDABLE,
    pb.CANDIDATE_REASON_EXHAUSTED,
    pb.CANDIDATE_REASON_NOT_RECORDED,
    pb.CANDIDATE_REASON_NO_ITEM,
    pb.CANDIDATE_REASON_PAUSED,
    pb.CANDIDATE_REASON_FLIGHT,
    pb.CANDIDATE_REASON_CURRENCY,
    pb.CANDIDATE_REASON_HOUR,
    pb.CANDIDATE_REASON_SEGMENT,
    pb.CANDIDATE_REASON_CATEGORY,
    pb.CANDIDATE_REASON_COUNTRY,
)
"""Reasons in the order of how far a line item came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One line item of the board and how far it came; fields as in bidder.proto."""

    line: int
    reason: int
    needed: str = ""
    item_id: str = ""
    probability: float = 0.0
    value_cpm: int = 0
    premium_cpm: int = 0
    multiplier: float = 0.0
    paced_cpm: int = 0
    bid_cpm: int = 0
    affordable_cpm: int = 0

    @property
    def rank(self) -> tuple[int, int, int]:
        """Sorts those that came furthest first."""
        return _FURTHEST.index(self.reason), -self.paced_cpm, self.line


def candidates_of(decision: Decision) -> list[Candidate]:
    """Every line item of the board, the one that was bid for first, then those that came furthest."""
    recorded = {int(row["line"]): row for row in decision.candidates}
    found = []
    for line in range(len(decision.board.max_bid_cpm)):
        if line in recorded:
            found.append(_priced(decision, recorded[line]))
        else:
            found.append(_not_matched(decision, line))
    return sorted(found, key=lambda each: each.rank)


def recomputes(decision: Decision, candidates: Sequence[Candidate]) -> bool:
    """Whether what is recorded leads to the same bid, or to none, again.

    candidates : of `candidates_of`. A user-written strategy is not called again: its bid is taken as recorded,
        as is one that was drawn at random.
    """
    auction, board = decision.auction[0], decision.board
    for row in decision.candidates:
        worth = float(row["probability"]) * int(board.worth_micros[row["line"]]) * 1000.0
        if row["value_cpm"] != (int(min(worth, MAX_VALUE_CPM)) if worth > 0.0 else 0):
            return False
    if auction["reason"] != pb.NO_BID_REASON_UNSPECIFIED:
        return all(each.reason != pb.CANDIDATE_REASON_OUTRANKED for each in candidates)
    priced = (pb.CANDIDATE_REASON_BID, pb.CANDIDATE_REASON_OUTRANKED)
    best, chosen = max(each.paced_cpm for each in candidates if each.reason in priced), candidates[0]
    if board.lines[chosen.line][1].strategy or auction["explored"]:
        return bool(chosen.bid_cpm == auction["bid_cpm"])
    bid = chosen.paced_cpm
    if auction["first_price"]:
        floor = max(int(auction["floor_cpm"]), 1)
        bid = max(int(shade(float(bid), float(floor), *decision.model.curve(int(auction["market_row"])))), floor)
    return bool(bid == auction["bid_cpm"] and chosen.paced_cpm == best)


def would_have_won(decision: Decision) -> tuple[int, int]:
    """A bid that would have won, CPM micros, and where that is known from (PriceSource)."""
    auction, outcome = decision.auction[0], decision.outcome
    floor = int(auction["floor_cpm"])
    if outcome.minimum_cpm[0] >= 0:
        return max(int(outcome.minimum_cpm[0]), floor), pb.PRICE_SOURCE_MINIMUM_TO_WIN
    if outcome.won[0] and not auction["first_price"] and outcome.price_cpm[0] >= 0:
        return max(int(outcome.price_cpm[0]), floor), pb.PRICE_SOURCE_PAID
    low, high = float(floor), np.inf
    bid = float(auction["bid_cpm"])
    if outcome.won[0]:
        high = bid
    elif bid > 0:
        low = max(low, bid)
    price = median_price(*decision.model.curve(int(auction["market_row"])), low, high)
    return max(int(np.ceil(price)), floor, 1), pb.PRICE_SOURCE_ESTIMATED


def _priced(decision: Decision, row: Any) -> Candidate:
    """A candidate that had an item to show; the price kernel's own steps."""
    auction, line = decision.auction[0], int(row["line"])
    floor = max(int(auction["floor_cpm"]), 1)
    cap, value = int(decision.board.max_bid_cpm[line]), int(row["value_cpm"] + row["premium_cpm"])
    affordable = int(row["affordable_cpm"])
    paced = min(int(value * float(row["multiplier"])), cap)
    _, item = decision.board.lines[line]
    reason, needed = _fate(decision, row, floor, paced)
    if reason == pb.CANDIDATE_REASON_BELOW_FLOOR:
        of, amount = ("its highest bid", cap) if cap < floor <= value else ("its value", value)
        needed = f"{of} at {floor} CPM micros or more; it was {amount}"
    elif reason == pb.CANDIDATE_REASON_PACED:
        needed = f"a multiplier of {floor / value:.4g} or more; it was {float(row['multiplier']):.4g}"
    return Candidate(
        line=line,
        reason=reason,
        needed=needed,
        item_id=item.item_ids[row["position"]] if 0 <= row["position"] < len(item.item_ids) else "",
        probability=float(row["probability"]),
        value_cpm=int(row["value_cpm"]),
        premium_cpm=int(row["premium_cpm"]),
        multiplier=float(row["multiplier"]),
        paced_cpm=min(paced, affordable),
        bid_cpm=int(row["bid_cpm"]),
        affordable_cpm=affordable,
    )


def _fate(decision: Decision, row: Any, floor: int, paced: int) -> tuple[int, str]:
    """Reason and, where nothing needs to be computed, what was needed."""
    auction = decision.auction[0]
    affordable = int(row["affordable_cpm"])
    if auction["line"] == row["line"]:
        return pb.CANDIDATE_REASON_BID, ""
    if affordable <= 0:
        return pb.CANDIDATE_REASON_EXHAUSTED, "money left to spend, of it or of what is above it"
    if row["rank"] >= 0:
        return _ranked(decision, row)
    _, line = decision.board.lines[int(row["line"])]
    value = int(row["value_cpm"] + row["premium_cpm"])
    if line.strategy:
        return pb.CANDIDATE_REASON_STRATEGY, f"a bid of its strategy of {floor} CPM micros or more"
    if paced < floor:
        reaches = min(value, int(decision.board.max_bid_cpm[row["line"]])) >= floor
        return (pb.CANDIDATE_REASON_PACED if reaches else pb.CANDIDATE_REASON_BELOW_FLOOR), ""
    if affordable < floor:
        return pb.CANDIDATE_REASON_UNAFFORDABLE, f"{floor - affordable} CPM micros more to spend"
    if auction["reason"] == pb.NO_BID_REASON_INSUFFICIENT_TIME:
        return pb.CANDIDATE_REASON_LATE, "more time"
    return pb.CANDIDATE_REASON_OUTRANKED, _above(decision, row)


def _ranked(decision: Decision, row: Any) -> tuple[int, str]:
    auction = decision.auction[0]
    chosen = [each for each in decision.candidates if each["line"] == auction["line"]]
    if chosen and row["rank"] > chosen[0]["rank"]:
        return pb.CANDIDATE_REASON_OUTRANKED, _above(decision, row)
    if auction["reason"] == pb.NO_BID_REASON_INSUFFICIENT_TIME:
        return pb.CANDIDATE_REASON_LATE, "more time"
    return pb.CANDIDATE_REASON_REFUSED, "room in the budget, or no brake"


def _above(decision: Decision, row: Any) -> str:
    """The paced value to beat."""
    chosen = [each for each in decision.candidates if each["line"] == decision.auction[0]["line"]]
    if not chosen:
        return "a higher paced value"
    best, own = _capped(decision, chosen[0]), _capped(decision, row)
    tie = " too, and ties go to the campaign first by id, then to its line item named first" if own == best else ""
    return f"a paced value above {best} CPM micros; it was {own}{tie}"


def _capped(decision: Decision, row: Any) -> int:
    value = int(row["value_cpm"] + row["premium_cpm"])
    paced = min(int(value * float(row["multiplier"])), int(decision.board.max_bid_cpm[row["line"]]))
    return min(paced, int(row["affordable_cpm"]))


def _not_matched(decision: Decision, line: int) -> Candidate:
    """Why a line item was no candidate: the first of its wishes that the request does not meet."""
    auction = decision.auction[0]
    campaign, item = decision.board.lines[line]
    nothing = Candidate(line=line, reason=pb.CANDIDATE_REASON_NO_ITEM)
    for reason, needed in _unmet(decision, campaign, item):
        return replace(nothing, reason=reason, needed=needed)
    if auction["n_offers"] > auction["n_candidates"]:
        needed = "a higher paced value, or an item that may be shown"
        return replace(nothing, reason=pb.CANDIDATE_REASON_NOT_RECORDED, needed=needed)
    return replace(nothing, needed="an item that may be shown")


def _unmet(decision: Decision, campaign: Any, item: Any) -> Iterator[tuple[int, str]]:
    auction, board = decision.auction[0], decision.board
    ends = np.cumsum(auction["n_terms"])
    said = np.split(decision.terms, ends[:-1].astype(int))
    for (name, reason), words, vocabulary in zip(_DIMENSIONS, said, board.vocabularies, strict=True):
        wanted = list(getattr(item.targeting, name))
        if wanted and not {vocabulary[word] for word in wanted} & set(words.tolist()):
            yield reason, f"one of {name}: {_few(wanted)}"
    time_ms = int(auction["time_ms"])
    local = dt.datetime.fromtimestamp(time_ms / 1000, ZoneInfo(campaign.time_zone))
    if not week_bits(item.targeting) >> 24 * local.weekday() + local.hour & 1:
        yield pb.CANDIDATE_REASON_HOUR, f"another hour than {local:%A %H}:00 in {campaign.time_zone}"
    if board.currencies.get(campaign.currency, -1) != auction["currency"]:
        yield pb.CANDIDATE_REASON_CURRENCY, f"a request in {campaign.currency}"
    if not campaign.flight_start_ms <= time_ms < (campaign.flight_end_ms or np.inf):
        yield pb.CANDIDATE_REASON_FLIGHT, "a request within the flight"
    if campaign.paused:
        yield pb.CANDIDATE_REASON_PAUSED, "the campaign not paused"


def _few(words: list[str]) -> str:
    return ", ".join(words[:10]) + (f" and {len(words) - 10} more" if len(words) > 10 else "")
