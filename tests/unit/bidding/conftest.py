"""A bidding path over a small made-up artifact, with a plain ledger in memory."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from headrace.bidding.campaigns import CampaignStore
from headrace.bidding.foreign import ForeignEngine
from headrace.bidding.predict import BidModel, Strangers
from headrace.bidding.settings import BiddingConfig
from headrace.errors import PreconditionError
from headrace.events.store import Store
from headrace.front import Call
from headrace.ledger.ledger import Reason
from headrace.service.bidder import BidderService, Kind
from headrace.service.campaigns import CampaignsService
from headrace.v1 import bidder_pb2, campaigns_pb2

NOON_MS = 1_699_963_200_000
"""2023-11-14 12:00 UTC, a Tuesday."""
DAY_MS = 86_400_000


class PlainLedger:
    """The ledger's promises, kept by dictionaries: a path's spend and reservations never pass any limit of it."""

    shared = False

    def __init__(self) -> None:
        self.owned = True
        self._store = None
        self.settings: dict[str, dict] = {}
        self.balance: dict[str, int] = {}
        self.entries: set[str] = set()
        self.numbers: list[str] = []
        self.open: dict[str, tuple[str, int, int]] = {}
        self.settled: dict[str, str] = {}
        self.spent_of: dict[tuple[str, int], int] = {}
        self.held_of: dict[tuple[str, int], int] = {}
        self.closed = 0
        self.brakes: set[tuple[str, str]] = set()
        self.day = 0
        self.calls: list[tuple] = []
        self._serial = itertools.count()

    # -- settings
    def catch_up(self):
        pass

    def set_account(self, account_id, who="api", **settings):
        self.settings.setdefault(account_id, {}).update(settings)
        self._number(account_id)

    def set_accounts(self, patches, who="api", why="", also=None):
        if also is not None:
            self._store.write(also)
        for account_id, patch in patches.items():
            self.set_account(account_id, **patch)

    def fund(self, entry_id, advertiser_id, amount_micros, currency, who="api"):
        self.set_account(advertiser_id, currency=currency)
        if entry_id in self.entries:
            return
        if self.balance.get(advertiser_id, 0) + amount_micros < 0:
            raise PreconditionError("a refund above what is not committed")
        self.entries.add(entry_id)
        self.balance[advertiser_id] = self.balance.get(advertiser_id, 0) + amount_micros

    def currency(self, advertiser_id):
        return self.settings.get(advertiser_id, {}).get("currency")

    def account_number(self, account_id):
        return self.numbers.index(account_id)

    def brake(self, exchange, advertiser, engaged, reason, who):
        (self.brakes.add if engaged else self.brakes.discard)((exchange, advertiser))

    # -- money
    def expect(self, accounts):
        self.expected = accounts.tolist()

    def reserve(self, account_numbers, amounts_cpm, exchanges, now_ms):
        self.calls.append((account_numbers.tolist(), amounts_cpm.tolist(), list(exchanges), now_ms))
        self.day = max(self.day, now_ms // DAY_MS)
        answers = [
            self._reserve(self.numbers[number], -(-cpm // 1000), exchange)
            for number, cpm, exchange in zip(account_numbers.tolist(), amounts_cpm.tolist(), exchanges, strict=True)
        ]
        return [token for token, _ in answers], np.array([reason for _, reason in answers], np.int8)

    def release_reservations(self, tokens):
        for token in tokens:
            self._close(token)

    def notify(self, types, tokens, prices_cpm, now_ms, minimums_cpm=None):
        outcomes = [self._notice(*notice) for notice in zip(types, tokens, prices_cpm, strict=True)]
        return np.array(outcomes, np.int8)

    def spendable(self, account_numbers, now_ms=None):
        self.day = max(self.day, (now_ms or 0) // DAY_MS)
        return np.array([self._room(self.numbers[number]) for number in account_numbers.tolist()], np.int64)

    def spent(self, account_numbers, day=-1):
        return np.array([self.spent_of.get((self.numbers[n], day), 0) for n in account_numbers.tolist()], np.int64)

    def spent_today(self, account_numbers, now_ms):
        return self.spent(account_numbers, now_ms // DAY_MS)

    def accounts(self):
        return [
            SimpleNamespace(
                account_id=name,
                budget_in_force_micros=self.settings[name].get("lifetime_micros") or 0,
                billed_micros=self.spent_of.get((name, -1), 0),
                won_micros=0,
                reserved_micros=self.held_of.get((name, -1), 0),
                lease_unused_micros=0,
                late_micros=0,
                disputed_micros=0,
                stranded_micros=0,
            )
            for name in self.numbers
        ]

    def _number(self, account_id):
        if account_id not in self.numbers:
            self.numbers.append(account_id)

    def _reserve(self, name, micros, exchange):
        if self.closed:
            return None, self.closed
        if self.brakes & {("", ""), (exchange, ""), ("", name.split("/")[0])}:
            return None, Reason.BRAKE
        if self._room(name) < micros:
            return None, Reason.BUDGET
        token = f"token-{next(self._serial)}"
        self.open[token] = (name, micros, self.day)
        self._hold(name, micros, self.day)
        return token, 0

    def _hold(self, name, micros, day):
        for node in _path(name):
            for key in (-1, day):
                self.held_of[node, key] = self.held_of.get((node, key), 0) + micros

    def _room(self, name):
        rooms = [self.balance.get(name.split("/")[0], 0) - self._used(name.split("/")[0], -1)]
        for node in _path(name):
            limits = self.settings[node]
            for limit, key in (("lifetime_micros", -1), ("daily_micros", self.day)):
                if limits.get(limit) is not None:
                    rooms.append(limits[limit] - self._used(node, key))
        return min(rooms)

    def _used(self, node, key):
        return self.spent_of.get((node, key), 0) + self.held_of.get((node, key), 0)

    def _close(self, token):
        name, micros, day = self.open.pop(token)
        self._hold(name, -micros, day)
        return name, day

    def _notice(self, kind, token, price_cpm):
        if not token.startswith("token-"):
            return bidder_pb2.NOTICE_OUTCOME_FORGED
        if token in self.settled:
            return bidder_pb2.NOTICE_OUTCOME_DUPLICATE
        if kind == bidder_pb2.NOTICE_TYPE_WIN:
            return bidder_pb2.NOTICE_OUTCOME_ACCEPTED
        if token not in self.open:
            return bidder_pb2.NOTICE_OUTCOME_REFUSED
        name, day = self._close(token)
        self.settled[token] = name
        if kind == bidder_pb2.NOTICE_TYPE_BILLING:
            for node in _path(name):
                for key in (-1, day):
                    self.spent_of[node, key] = self.spent_of.get((node, key), 0) + -(-price_cpm // 1000)
        return bidder_pb2.NOTICE_OUTCOME_ACCEPTED


def _path(name):
    parts = name.split("/")
    return ["/".join(parts[: n + 1]) for n in range(len(parts))]


class PathClock:
    """The path's own time, whatever requests say."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> int:
        return self._path.now_ms

    def see(self, time_ms: int) -> None:
        pass


class Path:
    """One bidding path under test; ``now_ms`` and ``monotonic_s`` are its clocks."""

    def __init__(self, folder, artifact, ledger, config=None, people=None, strategies=None):
        self.now_ms = NOON_MS
        self.monotonic_s = 0.0
        self.config = config or BiddingConfig(explore_share=0.0)
        self.ledger = ledger
        # as in a server: one store for both
        self.store = ledger._store = ledger._store or Store(folder / "headrace.db")
        self.artifact = artifact
        clock = PathClock(self)
        self.campaigns = CampaignStore(
            self.store, ledger, max_bid_cpm=self.config.max_bid_cpm_micros, clock_ms=clock, strategies=strategies
        )
        self.engine = ForeignEngine(
            ledger,
            self.campaigns.board,
            BidModel.of(artifact),
            people or Strangers(artifact.item_factors.shape[1]),
            artifact.item_ids.find,
            self.config,
            monotonic=lambda: self.monotonic_s,
            strategies=strategies,
        )
        self.campaigns.subscribe(self.engine.set_board)
        self.bidder = BidderService(self.engine, ledger, self.config, clock)
        self.admin = CampaignsService(self.campaigns, self.engine, ledger)

    def calls(self, *messages, deadline=float("inf"), arrived=0.0):
        """One call for each message."""
        return [Call("", each.SerializeToString(), deadline, "ipv4:test", {}, None, arrived) for each in messages]

    def call(self):
        """A call whose body nobody reads."""
        return Call("", b"", float("inf"), "ipv4:test", {}, None, caller="a1b2")

    def bid(self, *requests, **of_call):
        """Answers of one call each, decided together."""
        answers = self.bidder.bid(Kind.REQUEST, self.calls(*requests, **of_call))
        return [self.parsed(bidder_pb2.BidResponse, answer) for answer in answers]

    def parsed(self, message, answer):
        """The message of an answer that is no error."""
        return answer if isinstance(answer, Exception) else message.FromString(answer)

    def bid_one(self, deadline=float("inf"), arrived=0.0, **fields):
        """The first impression's answer to one request."""
        (answer,) = self.bid(bid_request(**fields), deadline=deadline, arrived=arrived)
        if isinstance(answer, Exception):
            raise answer
        return answer.impressions[0]

    def notify(self, *notices):
        (answer,) = self.bidder.notify(self.calls(bidder_pb2.NotifyRequest(notices=notices)))
        if isinstance(answer, Exception):
            raise answer
        return list(bidder_pb2.NotifyResponse.FromString(answer).outcomes)

    def fund(self, advertiser_id="acme", amount_micros=10**9, entry_id="deposit", currency="USD"):
        self.campaigns.fund(entry_id, advertiser_id, amount_micros, currency, "tester")

    def create(self, **fields):
        return self.campaigns.create(campaign(**fields), "tester")

    def close(self):
        self.store.close()


def campaign(campaign_id="spring", lines=None, **fields):
    """A campaign of acme's that matches everything."""
    fields = {"advertiser_id": "acme", "pacing_plan": campaigns_pb2.PACING_PLAN_ASAP} | fields
    lines = [line_item()] if lines is None else lines
    return campaigns_pb2.Campaign(campaign_id=campaign_id, line_items=lines, **fields)


def line_item(line_item_id="line", **fields):
    """A line item that promotes i0 and i1, worth ten units a purchase."""
    fields = {"item_ids": ["i0", "i1"], "action_worth_micros": 10_000_000} | fields
    return campaigns_pb2.LineItem(line_item_id=line_item_id, **fields)


def bid_request(n_impressions=1, floor_cpm_micros=0, **fields):
    """A request of a stranger at a moment that the path's clock gives."""
    fields = {"bid_request_id": "auction", "exchange": "adx"} | fields
    impressions = [
        bidder_pb2.Impression(impression_id=str(i), floor_cpm_micros=floor_cpm_micros) for i in range(n_impressions)
    ]
    return bidder_pb2.BidRequest(impressions=impressions, **fields)


@pytest.fixture(scope="session")
def make():
    """Builders of campaigns, line items and bid requests, and the plain ledger."""
    return SimpleNamespace(
        campaign=campaign, line_item=line_item, bid_request=bid_request, ledger=PlainLedger, path=Path, noon_ms=NOON_MS
    )


@pytest.fixture
def path(tmp_path, factories):
    """A funded advertiser acme, no campaign yet."""
    path = Path(tmp_path, factories.make_artifact(), PlainLedger())
    path.fund()
    yield path
    path.close()
