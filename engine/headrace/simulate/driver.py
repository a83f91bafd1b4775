"""Runs a scenario: requests to the real engine, results to the exchanges, their notices to the real ledger."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headrace._native import hash_texts
from headrace.bidding.requests import BidRequests, Decisions, PlainWords
from headrace.bidding.settings import BiddingConfig
from headrace.errors import ConfigError
from headrace.ledger.ledger import AccountState, LedgerConfig, NoticeOutcome, NoticeType
from headrace.ledger.tokens import TokenKeys
from headrace.simulate.loading import Plan
from headrace.simulate.market import DAY_MS, MINUTE_MS, Auctions, draw_auctions, names_of, profile
from headrace.simulate.people import Visitors, bid_model
from headrace.simulate.post import Mail, PostOffice
from headrace.simulate.purchases import Purchases
from headrace.simulate.scenario import Edit
from headrace.simulate.stack import Stack
from headrace.types import Bool, Float64, Int8, Int32, Int64

BATCH = 128
"""Requests that are decided together, at most."""
USUAL = 32
"""About so many on average, as far as `SPANS_MS` allows."""
SPANS_MS = (1_000, 60_000)
"""The simulated time between the first and the last of them, at least and at most."""

MEMORY = "/dev/shm"
ROOM_BYTES = 4 << 30


@dataclass(slots=True)
class Record:
    """What became of n auctions, and of k campaigns at the end of each of t minutes.

    reason : (n,) int8 of `headrace.bidding.requests`, -1 where nobody answered.   line : (n,) int32, -1 without a bid.
    bid_cpm, paid_cpm : (n,) int64; paid is 0 unless won.   explored : (n,) bool, the bid was drawn at random.
    planned, multiplier : (t, k); planned is NaN where there is no plan, both where nobody bid yet.
    billed : nanos that the exchanges' accepted bills add up to, by lease.   lease_account : its line item's number.
    outcomes : notices by outcome.   n_lost : notices that never came.   given_up : micros of surplus that the bids
    drawn at random were expected to cost.   warnings : of strategies that answered no price.
    """

    reason: Int8
    line: Int32
    bid_cpm: Int64
    paid_cpm: Int64
    explored: Bool
    planned: Float64
    multiplier: Float64
    accounts: dict[str, AccountState] = field(default_factory=dict)
    billed: dict[int, int] = field(default_factory=dict)
    lease_account: dict[int, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    n_lost: int = 0
    given_up: int = 0
    warnings: list[str] = field(default_factory=list)

    @property
    def won(self) -> Bool:
        return self.paid_cpm > 0


@dataclass(frozen=True, slots=True)
class Run:
    """A scenario, its auctions, and what our side did in them."""

    plan: Plan
    auctions: Auctions
    record: Record


def simulate(
    plan: Plan,
    *,
    bidding: BiddingConfig | None = None,
    ledger: LedgerConfig | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Run:
    """Run a scenario to its end and settle every notice that arrives.

    bidding, ledger : settings to try.   progress : told the share that is done, about once a simulated hour.

    Raises ConfigError when nothing is ever auctioned or a strategy is missing, LedgerError when the books ever stop
    balancing.
    """
    auctions = draw_auctions(plan)
    if not len(auctions.time_ms):
        hint = "raise requests_per_day; look at traffic.hours, weekdays, days and outages"
        raise ConfigError("traffic", "no auction in all the days", "one at least", hint)
    with tempfile.TemporaryDirectory(prefix="headrace-simulate-", dir=_scratch()) as folder:
        driver = Driver(Path(folder), plan, auctions, bidding or BiddingConfig(), ledger or LedgerConfig())
        try:
            driver.run(progress)
        finally:
            driver.stack.close()
    return Run(plan, auctions, driver.record)


class Driver:
    """One run; ``now_ms`` is the market's clock."""

    def __init__(
        self, folder: Path, plan: Plan, auctions: Auctions, bidding: BiddingConfig, ledger: LedgerConfig
    ) -> None:
        scenario = plan.scenario
        self.now_ms = scenario.start_ms
        self._plan, self._auctions = plan, auctions
        model = bid_model(plan, profile(scenario))
        visitors = Visitors(auctions.probability)
        self.stack = Stack(folder, plan, model, visitors, lambda: self.now_ms, bidding, ledger)
        self._post = PostOffice(plan, auctions)
        self._purchases = Purchases(plan, auctions)
        self._keys = TokenKeys(folder / "ledger.keys")
        n, k = len(auctions.time_ms), len(plan.campaigns)
        n_minutes = (scenario.end_ms - scenario.start_ms) // MINUTE_MS
        self.record = Record(
            reason=np.full(n, -1, np.int8),
            line=np.full(n, -1, np.int32),
            bid_cpm=np.zeros(n, np.int64),
            paid_cpm=np.zeros(n, np.int64),
            explored=np.zeros(n, bool),
            planned=np.full((n_minutes, k), np.nan),
            multiplier=np.full((n_minutes, k), np.nan),
        )
        span = USUAL * DAY_MS / scenario.traffic.requests_per_day
        self._span_ms = int(np.clip(span, *SPANS_MS))
        self._first_price = np.array([each.auction == "first_price" for each in scenario.exchanges])
        self._marks = sorted(self._events(), key=lambda mark: mark[0])

    def run(self, progress: Callable[[float], None]) -> None:
        """All minutes in turn, then the notices that are still under way."""
        scenario = self._plan.scenario
        times = self._auctions.time_ms
        n_minutes = len(self.record.planned)
        ends = scenario.start_ms + MINUTE_MS * np.arange(1, n_minutes + 1)
        last = np.searchsorted(times, ends)
        row = 0
        for minute in range(n_minutes):
            for batch in self._batches(row, int(last[minute])):
                self._decide(batch)
            row = int(last[minute])
            self._pass_time(int(ends[minute]) - 1)
            self._sample(minute)
            if minute % 60 == 59:
                self.stack.ledger.check_invariant()
                progress((minute + 1) / n_minutes)
        self._pass_time(max(scenario.end_ms, self._post.last_ms))
        self.stack.ledger.check_invariant()
        self.record.accounts = self.stack.accounts()
        self.record.n_lost = self._post.n_lost
        self.record.given_up = self.stack.given_up()
        self.record.warnings = self.stack.warnings()

    def _batches(self, start: int, end: int) -> Iterator[slice]:
        """Requests that are decided together; none spans an edit or an outage's edge, whose time comes in between."""
        times = self._auctions.time_ms
        while start < end:
            self._pass_time(int(times[start]))
            until = int(times[start]) + self._span_ms
            if self._marks:
                until = min(until, self._marks[0][0])
            stop = min(start + BATCH, end, int(np.searchsorted(times[start:end], until)) + start)
            stop = max(stop, start + 1)
            yield slice(start, stop)
            start = stop

    def _pass_time(self, now_ms: int) -> None:
        """Let a moment come: edits, outages and notices on the way to it, in order."""
        while self._marks and self._marks[0][0] <= now_ms:
            moment, act = self._marks.pop(0)
            self._deliver(moment - 1)
            self.now_ms = max(self.now_ms, moment)
            act()
        self._deliver(now_ms)
        self.now_ms = max(self.now_ms, now_ms)

    def _deliver(self, now_ms: int) -> None:
        if self.stack.ledger.owned and (actions := self._purchases.reported(now_ms)):
            self.stack.actions.report(actions)
        mail = self._post.arrived(now_ms)
        if not len(mail):
            return
        self.now_ms = max(self.now_ms, now_ms)
        outcomes = self.stack.hear(mail, self.now_ms)
        for outcome, count in zip(*np.unique(outcomes, return_counts=True), strict=True):
            name = NoticeOutcome(int(outcome)).name.lower()
            self.record.outcomes[name] = self.record.outcomes.get(name, 0) + int(count)
        self._charge(mail, outcomes)

    def _charge(self, mail: Mail, outcomes: Int8) -> None:
        """Add accepted bills to their leases, as the exchange's own books would."""
        paid = np.flatnonzero((outcomes == NoticeOutcome.ACCEPTED) & (mail.types == NoticeType.BILLING)).tolist()
        if not paid:
            return
        bodies, _, _ = self._keys.verify([mail.tokens[row] for row in paid])
        for row, lease, account in zip(paid, bodies["lease"].tolist(), bodies["account"].tolist(), strict=True):
            self.record.billed[lease] = self.record.billed.get(lease, 0) + int(mail.prices_cpm[row])
            self.record.lease_account[lease] = account

    def _decide(self, batch: slice) -> None:
        rows = np.arange(batch.start, batch.stop)
        rows = rows[self._auctions.answered[batch]]
        if not len(rows):
            return
        self.now_ms = max(self.now_ms, int(self._auctions.time_ms[rows[-1]]))
        decisions = self.stack.engine.bid(self._requests(rows))
        self._settle(rows, decisions)

    def _requests(self, rows: Int64) -> BidRequests:
        auctions, scenario = self._auctions, self._plan.scenario
        places = [scenario.exchanges[row] for row in auctions.exchange[rows].tolist()]
        words = PlainWords(
            [_word(names_of(place.countries), row) for place, row in zip(places, auctions.country[rows], strict=True)],
            [
                tuple(filter(None, [_word(names_of(place.categories), row)]))
                for place, row in zip(places, auctions.category[rows], strict=True)
            ],
            [()] * len(rows),
            [self._plan.campaigns[0].currency] * len(rows),
        )
        return BidRequests(
            names=[str(row) for row in rows.tolist()],
            words=words,
            exchanges=[place.name for place in places],
            deadlines=np.full(len(rows), np.inf),
            time_ms=auctions.time_ms[rows],
            first_price=self._first_price[auctions.exchange[rows]],
            seeds=hash_texts([f"auction {row}" for row in rows.tolist()]),
            request=np.arange(len(rows), dtype=np.int32),
            floor_cpm=auctions.floor_cpm[rows],
            placements=[place.placement for place in places],
        )

    def _settle(self, rows: Int64, decisions: Decisions) -> None:
        """Hold the auctions: the bid against the price of each."""
        record, auctions = self.record, self._auctions
        price, bid = auctions.price_cpm[rows], decisions.bid_cpm
        won = (bid >= price) & (decisions.lines >= 0)
        paid = np.where(won, np.where(self._first_price[auctions.exchange[rows]], bid, price), 0)
        record.reason[rows] = decisions.reasons
        record.line[rows] = decisions.lines
        record.bid_cpm[rows] = bid
        record.paid_cpm[rows] = paid
        record.explored[rows] = decisions.explored
        self._purchases.follow(rows, decisions.lines, won, decisions.tokens)
        columns = (rows, auctions.time_ms[rows], won, paid, price)
        for token, *values in zip(decisions.tokens, *(column.tolist() for column in columns), strict=True):
            if token is not None:
                row, time_ms, is_won, pays, minimum = values
                self._post.post(row, time_ms, token, is_won, pays, minimum)

    def _sample(self, minute: int) -> None:
        _, planned, multiplier = self.stack.engine.plans()
        self.record.planned[minute], self.record.multiplier[minute] = planned, multiplier

    def _events(self) -> Iterator[tuple[int, Callable[[], None]]]:
        scenario = self._plan.scenario
        for edit in scenario.edits:
            yield scenario.moment(edit.at_hour), self._edit(edit)
        for outage in scenario.outages:
            if outage.kind == "server":
                yield scenario.moment(outage.at_hour), self.stack.close
                yield min(scenario.moment(outage.at_hour + outage.hours), scenario.end_ms) - 1, self.stack.open

    def _edit(self, edit: Edit) -> Callable[[], None]:
        return lambda: self.stack.edit(edit)


def _scratch() -> str | None:
    """A folder in memory where there is room: nothing of a simulation has to survive, so no disk is waited for."""
    usable = os.path.isdir(MEMORY) and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if usable else None


def _word(names: list[str], row: int) -> str:
    return names[row] if row >= 0 else ""
