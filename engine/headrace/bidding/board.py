"""All campaigns as arrays: what the kernels read, built anew on every change and swapped in whole."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from zoneinfo import ZoneInfo

import numpy as np

from headrace._native import BidBoard
from headrace.bidding.validation import ALL_WEEK, week_bits
from headrace.ids import UInt64
from headrace.kernels.match import N_DIMENSIONS
from headrace.ledger.ledger import Ledger
from headrace.types import Bool, Float64, Int32, Int64
from headrace.v1 import campaigns_pb2 as pb

NO_LIMIT = -1
DEFAULT_AHEAD_SHARE = 0.7
FOREVER_MS = np.iinfo(np.int64).max
QUARTER_MS = 900_000
"""Every zone's offset from UTC is a multiple of a quarter of an hour, so its local hour is fixed within one."""

_MAX_QUARTERS = 4096


@dataclass(frozen=True, slots=True)
class Nodes:
    """Budgets of the m line items, then of the k campaigns; N = m + k.

    accounts, advertisers : (N,) int32 numbers in the ledger, of the node and of its advertiser.
    daily_micros, lifetime_micros : (N,) int64, -1 where there is no such limit.
    flight_start_ms, flight_end_ms : (N,) int64.   week : (N,) int32 row of weeks.   zone : (N,) int32 row of zones.
    curve : (N,) float64. By a share s of its expected traffic a plan wants 1 - (1 - s) ** curve of its budget spent:
        1 for even plans, infinite for as fast as possible.
    """

    accounts: Int32
    advertisers: Int32
    daily_micros: Int64
    lifetime_micros: Int64
    flight_start_ms: Int64
    flight_end_ms: Int64
    week: Int32
    zone: Int32
    curve: Float64


@dataclass(frozen=True, slots=True)
class Aims:
    """What money must achieve, of m line items or k campaigns; 0 is none.

    cpa_micros : (n,) int64.   roas : (n,) float64.
    """

    cpa_micros: Int64
    roas: Float64

    @property
    def any(self) -> Bool:
        """(n,) bool: who has a goal."""
        return (self.cpa_micros > 0) | (self.roas > 0.0)


@dataclass(frozen=True, slots=True)
class Promises:
    """Impressions promised by m line items; 0 is none.

    impressions : (2, m) int64, of each local day and of the flight.   penalty_cpm : (m,) int64.
    """

    impressions: Int64
    penalty_cpm: Int64


@dataclass(frozen=True, slots=True)
class Board:
    """m line items of k campaigns; a campaign's line items lie side by side.

    campaigns : the k messages.   rows : campaign_id to its row.   line_items : the m messages.
    campaign_of : (m,) int32.
    names : per line item: campaign_id, line_item_id, advertiser_id.
    campaign_indptr : (k + 1,) int64.   even : (k,) bool, paced rather than as fast as possible.
    weeks : distinct sets of hours, 168 bits each as of `week_bits`.
    aims, campaign_aims : goals of line items and of campaigns.
    promoted_ids : item ids of all line items in a row; line item l has ``promoted_indptr[l]:promoted_indptr[l + 1]``.
    vocabularies : per dimension (country, category, segment) the term_bits row of a word.
    Arrays of bits are those of `headrace.kernels.match.Targets`.
    native : words and ids once more, for the codec.
    """

    version: int
    campaigns: list[pb.Campaign]
    rows: dict[str, int]
    names: list[tuple[str, str, str]]
    line_items: list[pb.LineItem]
    campaign_of: Int32
    campaign_indptr: Int64
    even: Bool
    paused: Bool
    worth_micros: Int64
    max_bid_cpm: Int64
    nodes: Nodes
    aims: Aims
    campaign_aims: Aims
    promises: Promises
    zones: list[ZoneInfo]
    weeks: list[int]
    promoted_ids: list[str]
    promoted_indptr: Int64
    vocabularies: tuple[dict[str, int], dict[str, int], dict[str, int]]
    any_bits: UInt64
    term_bits: UInt64
    currencies: dict[str, int]
    currency_bits: UInt64
    hours: HourIndex
    native: BidBoard

    @property
    def n_lines(self) -> int:
        return len(self.line_items)

    def lines_of(self, campaign: int) -> range:
        """Rows of a campaign's line items."""
        return range(int(self.campaign_indptr[campaign]), int(self.campaign_indptr[campaign + 1]))

    def item_id(self, line: int, position: int) -> str:
        """The item at a place of a line item's list."""
        return self.promoted_ids[int(self.promoted_indptr[line]) + position]


@dataclass(slots=True)
class HourIndex:
    """Which line items run in a quarter of an hour, remembered for the quarters asked for.

    groups : (zone, 168 bits of local hours, words) per distinct pair.
    """

    groups: list[tuple[ZoneInfo, int, UInt64]]
    n_words: int
    _known: dict[int, UInt64] = field(default_factory=dict)

    def rows(self, time_ms: Int64) -> tuple[UInt64, Int32]:
        """Words of the distinct quarters of (n,) times, (h, w) uint64, and each time's row, (n,) int32."""
        times = time_ms.tolist()
        if min(times) // QUARTER_MS == max(times) // QUARTER_MS:
            return self._words(times[0] // QUARTER_MS), np.zeros(len(times), np.int32)
        quarters = [time // QUARTER_MS for time in times]
        distinct = sorted(set(quarters))
        row_of = {quarter: row for row, quarter in enumerate(distinct)}
        words = np.concatenate([self._words(quarter) for quarter in distinct])
        return words, np.array([row_of[quarter] for quarter in quarters], np.int32)

    def _words(self, quarter: int) -> UInt64:
        words = self._known.get(quarter)
        if words is None:
            if len(self._known) >= _MAX_QUARTERS:
                self._known.clear()
            words = self._known[quarter] = self._compute(quarter)
        return words

    def _compute(self, quarter: int) -> UInt64:
        words = np.zeros((1, self.n_words), np.uint64)
        moment = dt.datetime.fromtimestamp(quarter * QUARTER_MS / 1000, dt.UTC)
        for zone, week, bits in self.groups:
            local = moment.astimezone(zone)
            if week >> 24 * local.weekday() + local.hour & 1:
                words[0] |= bits
        return words


def build_board(version: int, campaigns: Iterable[pb.Campaign], ledger: Ledger, max_bid_cpm: int) -> Board:
    """Arrange validated campaigns; their accounts must exist.

    max_bid_cpm : the highest bid of a line item that sets none, CPM micros; also bounds those that do.
    """
    messages = sorted(campaigns, key=lambda campaign: campaign.campaign_id)
    lines = [line for campaign in messages for line in campaign.line_items]
    sizes = [len(campaign.line_items) for campaign in messages]
    campaign_of = np.repeat(np.arange(len(messages), dtype=np.int32), sizes)
    owners = [messages[i] for i in campaign_of]
    n_words = max(1, -(-len(lines) // 64))
    zone_rows, zones = _zones(messages)
    vocabularies, any_bits, term_bits = _terms(lines, n_words)
    currencies = {name: row for row, name in enumerate(sorted({campaign.currency for campaign in messages}))}
    caps = [line.max_bid_cpm_micros or max_bid_cpm for line in lines]
    weeks: dict[int, int] = {}
    nodes = _nodes(messages, lines, owners, zone_rows, weeks, ledger)
    names = [
        (owner.campaign_id, line.line_item_id, owner.advertiser_id) for owner, line in zip(owners, lines, strict=True)
    ]
    promoted_ids = [item for line in lines for item in line.item_ids]
    promoted_indptr = _indptr([len(line.item_ids) for line in lines])
    return Board(
        version=version,
        campaigns=messages,
        rows={campaign.campaign_id: row for row, campaign in enumerate(messages)},
        names=names,
        line_items=lines,
        campaign_of=campaign_of,
        campaign_indptr=_indptr(sizes),
        even=np.array([campaign.pacing_plan != pb.PACING_PLAN_ASAP for campaign in messages], bool),
        paused=np.array([owner.paused for owner in owners], bool),
        worth_micros=np.array([_worth(line, owner) for line, owner in zip(lines, owners, strict=True)], np.int64),
        max_bid_cpm=np.minimum(np.array(caps, np.int64), max_bid_cpm),
        nodes=nodes,
        aims=_aims([line.goals for line in lines]),
        campaign_aims=_aims([campaign.goals for campaign in messages]),
        promises=_promises(lines),
        zones=zones,
        weeks=list(weeks),
        promoted_ids=promoted_ids,
        promoted_indptr=promoted_indptr,
        vocabularies=vocabularies,
        any_bits=any_bits,
        term_bits=term_bits,
        currencies=currencies,
        currency_bits=_bits([[currencies[owner.currency]] for owner in owners], len(currencies) + 1, n_words),
        hours=_hour_index(nodes, zones, list(weeks), len(lines), n_words),
        native=BidBoard(vocabularies, currencies, names, promoted_ids, promoted_indptr),
    )


def _indptr(sizes: Sequence[int]) -> Int64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(sizes, np.int64))])


def _zones(campaigns: Sequence[pb.Campaign]) -> tuple[dict[str, int], list[ZoneInfo]]:
    names = sorted({campaign.time_zone for campaign in campaigns})
    return {name: row for row, name in enumerate(names)}, [ZoneInfo(name) for name in names]


def _nodes(
    campaigns: Sequence[pb.Campaign],
    lines: Sequence[pb.LineItem],
    owners: Sequence[pb.Campaign],
    zone_rows: dict[str, int],
    weeks: dict[int, int],
    ledger: Ledger,
) -> Nodes:
    limits = [line.limits for line in lines] + [campaign.limits for campaign in campaigns]
    holders = [*owners, *campaigns]
    names = [line_account(owner, line.line_item_id) for owner, line in zip(owners, lines, strict=True)]
    names += [campaign_account(campaign) for campaign in campaigns]
    hours = [week_bits(line.targeting) for line in lines] + [_union(campaign) for campaign in campaigns]
    return Nodes(
        accounts=np.array([ledger.account_number(name) for name in names], np.int32),
        advertisers=np.array([ledger.account_number(holder.advertiser_id) for holder in holders], np.int32),
        daily_micros=np.array([limit_of(limit, "daily_micros") for limit in limits], np.int64),
        lifetime_micros=np.array([limit_of(limit, "lifetime_micros") for limit in limits], np.int64),
        flight_start_ms=np.array([holder.flight_start_ms for holder in holders], np.int64),
        flight_end_ms=np.array([holder.flight_end_ms or FOREVER_MS for holder in holders], np.int64),
        week=np.array([weeks.setdefault(bits, len(weeks)) for bits in hours], np.int32),
        zone=np.array([zone_rows[holder.time_zone] for holder in holders], np.int32),
        curve=np.array([_curve(holder) for holder in holders], np.float64),
    )


def _union(campaign: pb.Campaign) -> int:
    bits = 0
    for line in campaign.line_items:
        bits |= week_bits(line.targeting)
    return bits or ALL_WEEK


def _curve(campaign: pb.Campaign) -> float:
    if campaign.pacing_plan == pb.PACING_PLAN_ASAP:
        return math.inf
    ahead = campaign.pacing_plan == pb.PACING_PLAN_AHEAD
    return -math.log2(1.0 - (campaign.ahead_share or DEFAULT_AHEAD_SHARE)) if ahead else 1.0


def _worth(line: pb.LineItem, owner: pb.Campaign) -> int:
    return line.action_worth_micros or line.goals.target_cpa_micros or owner.goals.target_cpa_micros


def _aims(goals: Sequence[pb.Goals]) -> Aims:
    return Aims(
        cpa_micros=np.array([goal.target_cpa_micros for goal in goals], np.int64),
        roas=np.array([goal.target_roas for goal in goals], np.float64),
    )


def _promises(lines: Sequence[pb.LineItem]) -> Promises:
    due = [(line.guarantee.daily_impressions, line.guarantee.impressions) for line in lines]
    return Promises(
        impressions=np.array(due, np.int64).reshape(-1, 2).T.copy(),
        penalty_cpm=np.array([line.guarantee.penalty_cpm_micros for line in lines], np.int64),
    )


def limit_of(limits: pb.Limits, name: str) -> int:
    """A limit in micros, -1 when it is left out."""
    return int(getattr(limits, name)) if limits.HasField(name) else NO_LIMIT


def campaign_account(campaign: pb.Campaign) -> str:
    return f"{campaign.advertiser_id}/{campaign.campaign_id}"


def line_account(campaign: pb.Campaign, line_item_id: str) -> str:
    return f"{campaign.advertiser_id}/{campaign.campaign_id}/{line_item_id}"


def _bits(rows_of_lines: Sequence[Iterable[int]], n_rows: int, n_words: int) -> UInt64:
    bits = np.zeros((n_rows, n_words), np.uint64)
    for line, rows in enumerate(rows_of_lines):
        for row in rows:
            bits[row, line // 64] |= np.uint64(1 << line % 64)
    return bits


def _terms(
    lines: Sequence[pb.LineItem], n_words: int
) -> tuple[tuple[dict[str, int], dict[str, int], dict[str, int]], UInt64, UInt64]:
    wishes = [(line.targeting.countries, line.targeting.categories, line.targeting.user_segments) for line in lines]
    vocabularies: tuple[dict[str, int], dict[str, int], dict[str, int]] = ({}, {}, {})
    n_terms = 0
    for wish in wishes:
        for vocabulary, words in zip(vocabularies, wish, strict=True):
            for word in words:
                if word not in vocabulary:
                    vocabulary[word] = n_terms
                    n_terms += 1
    named = [
        [vocabulary[word] for vocabulary, words in zip(vocabularies, wish, strict=True) for word in words]
        for wish in wishes
    ]
    free = [[dimension for dimension in range(N_DIMENSIONS) if not wish[dimension]] for wish in wishes]
    return vocabularies, _bits(free, N_DIMENSIONS, n_words), _bits(named, n_terms, n_words)


def _hour_index(nodes: Nodes, zones: list[ZoneInfo], weeks: list[int], n_lines: int, n_words: int) -> HourIndex:
    groups: dict[tuple[int, int], list[int]] = {}
    for line in range(n_lines):
        groups.setdefault((int(nodes.zone[line]), int(nodes.week[line])), []).append(line)
    found = []
    for (zone, week), lines in groups.items():
        bits = np.zeros((1, n_words), np.uint64)
        for line in lines:
            bits[0, line // 64] |= np.uint64(1 << line % 64)
        found.append((zones[zone], weeks[week], bits[0]))
    return HourIndex(found, n_words)
