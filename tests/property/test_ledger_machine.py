"""Random lives of a ledger, held against the plain rules after every step."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headrace.audit.auditor import audit
from headrace.audit.stated import compare_engine
from headrace.audit.tables import compare_tables
from headrace.audit.trail import open_store
from headrace.errors import PreconditionError
from headrace.events.store import Store
from headrace.ledger.budgets import LedgerMode
from headrace.ledger.ledger import Ledger, LedgerConfig, Reason
from headrace.ledger.tokens import TokenKeys
from headrace.reference.ledger import FORGED, REFUSED, ReferenceLedger, Token

FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None
HOUR, DAY = 3_600_000, 86_400_000
START = 1_800_000_000_000
LEAVES = ("a/hold/x", "a/hold/y", "a/expire/z", "b/hold/w")
NODES = ("a", "a/hold", "a/expire", "b", "b/hold", *LEAVES)
TTL = 2 * HOUR
CONFIG = LedgerConfig(expire_after_ms=TTL, lease_max_micros=5_000, snapshot_records=25)

cpms = st.one_of(st.integers(1, 3_000), st.integers(1, 400_000), st.just(1), st.just(1_000), st.just(1_001))
limits = st.one_of(st.none(), st.integers(0, 3_000), st.just(0))


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.root = Path(tempfile.mkdtemp(dir=FAST))
        self.n_lives = 0
        self.model = ReferenceLedger(ttl_ms={"a/expire/z": TTL})
        self.tokens: list[tuple[str, Token]] = []
        self.balance = {"a": 0, "b": 0}
        self.limits: dict[str, tuple[int | None, int | None]] = {}
        self.committed: dict[str, int] = {}
        self.n_entries = 0
        self.exact: set[int] = set()  # leases whose reservations the journal knows singly
        self.pooled: dict[int, int] = {}  # leases that lost them, and when
        self.open(self.root / "life0")

    def open(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self.store = Store(folder / "store.db")
        self.ledger = Ledger(folder, self.store, clock_ms=lambda: self.now, config=CONFIG)
        assert self.ledger.try_acquire()

    def teardown(self) -> None:
        self.ledger.flush()
        with open_store(self.store.path) as trail:
            found = audit(trail)
            compare_engine(found, trail, self.now)
            compare_tables(found, trail)
        assert found.differences == []
        assert all(found.recount.limits.over(account.number) == 0 for account in found.accounts)
        self.ledger.close()
        self.store.close()
        shutil.rmtree(self.root)

    # -- rules

    @initialize(a=st.integers(1_000, 20_000), b=st.integers(0, 2_000))
    def start(self, a: int, b: int) -> None:
        self.fund("a", a)
        if b:
            self.fund("b", b)
        self.ledger.set_account("a", time_zone="Pacific/Auckland")
        self.ledger.set_account("a/hold", time_zone="America/New_York")
        self.ledger.set_account("a/expire", mode=LedgerMode.EXPIRE)
        for leaf in LEAVES:
            self.ledger.set_account(leaf)

    def fund(self, advertiser: str, amount: int) -> None:
        self.n_entries += 1
        self.ledger.fund(f"entry{self.n_entries}", advertiser, amount)
        self.balance[advertiser] += amount

    @rule(advertiser=st.sampled_from("ab"), amount=st.integers(-5_000, 5_000).filter(bool))
    def move_balance(self, advertiser: str, amount: int) -> None:
        try:
            self.fund(advertiser, amount)
        except PreconditionError:
            used = self.used(advertiser)
            assert self.balance[advertiser] + amount < used

    @rule(node=st.sampled_from(NODES), lifetime=limits, daily=limits)
    def set_limits(self, node: str, lifetime: int | None, daily: int | None) -> None:
        self.ledger.set_account(node, lifetime_micros=lifetime, daily_micros=daily)
        self.limits[node] = (lifetime, daily)

    @rule(leaf=st.sampled_from(LEAVES), amounts=st.lists(cpms, min_size=1, max_size=12))
    def reserve(self, leaf: str, amounts: list[int]) -> None:
        self.tick()
        n = len(amounts)
        number = self.ledger.account_number(leaf)
        tokens, reasons = self.ledger.reserve(
            np.full(n, number, np.int32), np.array(amounts, np.int64), ["x"] * n, self.now
        )
        day = 0
        for token, cpm, reason in zip(tokens, amounts, reasons.tolist(), strict=True):
            assert (token is None) == (reason != Reason.OK)
            if token is not None:
                day = self.remember(token, leaf, cpm)
        for cpm, reason in zip(amounts, reasons.tolist(), strict=True):
            if reason == Reason.OK:
                self.check_limits(leaf, day)
            else:
                assert reason == Reason.BUDGET
                left = self.ledger.spendable(np.array([number], np.int32))[0]
                assert left < -(-cpm // 1000), "a budget that has room refuses"

    def remember(self, token: str, leaf: str, cpm: int) -> int:
        bodies, malformed, forged = TokenKeys(self.folder / "ledger.keys").verify([token])
        assert not malformed[0]
        assert not forged[0]
        assert bodies["cpm"][0] == cpm
        day = int(bodies["day"][0])
        known = Token(leaf, int(bodies["lease"][0]), day, cpm, self.now)
        self.tokens.append((token, known))
        self.model.tokens.append(known)
        return day

    def check_limits(self, leaf: str, day: int) -> None:
        parts = leaf.split("/")
        for depth in range(1, 4):
            node = "/".join(parts[:depth])
            lifetime, daily = self.limits.get(node, (None, None))
            used = self.used(node)
            if lifetime is not None:
                assert used <= lifetime
            if depth == 1:
                assert used <= self.balance[node]
            if daily is not None:
                amounts = self.model.amounts(node, day)
                assert amounts.billed + amounts.won + amounts.reserved <= daily

    def used(self, node: str) -> int:
        amounts = self.model.amounts(node)
        return amounts.billed + amounts.won + amounts.reserved + self.model.extra_below(node)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), n=st.integers(1, 8))
    def notify(self, data: st.DataObject, n: int) -> None:
        picks = [data.draw(st.sampled_from(self.tokens)) for _ in range(n)]
        kinds = [data.draw(st.sampled_from([1, 2, 3])) for _ in range(n)]
        prices = [data.draw(prices_for(token.cpm)) for _, token in picks]
        self.tick()
        outcomes = self.ledger.notify(kinds, [text for text, _ in picks], prices, self.now)
        expected = [
            self.model.notify(kind, token, price) for kind, (_, token), price in zip(kinds, picks, prices, strict=True)
        ]
        assert outcomes.tolist() == expected

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), kind=st.sampled_from([1, 2, 3]))
    def repeat(self, data: st.DataObject, kind: int) -> None:
        text, token = data.draw(st.sampled_from(self.tokens))
        self.tick()
        self.model.notify(kind, token, token.cpm)
        self.ledger.notify([kind], [text], [token.cpm], self.now)
        before = self.ledger.accounts()
        again = self.ledger.notify([kind], [text], [token.cpm], self.now)
        assert again[0] == self.model.notify(kind, token, token.cpm)
        assert self.ledger.accounts() == before, "a repeated notice moved money"

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), kind=st.sampled_from([1, 2, 3]))
    def forge(self, data: st.DataObject, kind: int) -> None:
        text, token = data.draw(st.sampled_from(self.tokens))
        at = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(st.sampled_from("ABCXYZabcxyz0189-_"))
        forged = text[:at] + letter + text[at + 1 :]
        self.tick()
        if forged != text:
            assert self.ledger.notify([kind], [forged], [token.cpm], self.now)[0] in (FORGED, REFUSED)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), price=st.one_of(st.none(), st.integers(0, 3_000)))
    def close_by_hand(self, data: st.DataObject, price: int | None) -> None:
        text, token = data.draw(st.sampled_from(self.tokens))
        self.tick()
        outcome = self.ledger.close_reservation(text, "op", "reconciled", price)
        kind = 4 if price is None else 5
        assert outcome == self.model.notify(kind, token, price)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def release_unsent(self, data: st.DataObject) -> None:
        text, token = data.draw(st.sampled_from(self.tokens))
        self.tick()
        if token.state == "reserved" and token.lease not in self.pooled:
            self.ledger.release_reservations([text])
            token.state = "lost"

    @rule(step=st.one_of(st.integers(0, HOUR), st.integers(-DAY, 2 * DAY), st.just(TTL)))
    def pass_time(self, step: int) -> None:
        self.now = max(START - 5 * DAY, self.now + step)

    @rule()
    def tick(self) -> None:
        self.ledger.tick(self.now)
        self.model.expire(self.now)
        due = [lease for lease, since in self.pooled.items() if since + TTL <= self.now]
        if due:
            self.ledger.flush()
            known = self.model.amounts("a/expire/z").reserved
            left = self.state("a/expire/z").reserved_micros - known
            assert 0 <= left <= self.model.extra["a/expire/z"]
            self.model.extra["a/expire/z"] = left

    @rule()
    def drain_and_restart(self) -> None:
        self.ledger.close()
        self.store.close()
        self.open(self.folder)
        self.exact.update(token.lease for token in self.model.tokens if token.lease not in self.pooled)
        assert all(state.lease_unused_micros == 0 for state in self.ledger.accounts())

    @rule(power=st.booleans())
    def crash(self, power: bool) -> None:
        """A kill keeps what memory held for the file system; a power loss may not."""
        self.n_lives += 1
        dead = self.root / f"life{self.n_lives}"
        shutil.copytree(self.folder, dead)
        if power:
            (dead / "ledger.reservations").unlink()
        self.ledger.close()
        self.store.close()
        shutil.rmtree(self.folder)
        self.open(dead)
        if power:
            self.lose_reservations()
        self.exact.update(token.lease for token in self.model.tokens if token.lease not in self.pooled)

    def lose_reservations(self) -> None:
        for token in self.model.tokens:
            if token.lease not in self.exact:
                token.since_ms = self.pooled.setdefault(token.lease, self.now)
        for leaf in LEAVES:
            state = self.state(leaf)
            known = self.model.amounts(leaf).reserved
            assert state.reserved_micros >= known, "a power loss set reserved money free"
            self.model.extra[leaf] = state.reserved_micros - known

    def state(self, account_id: str):  # type: ignore[no-untyped-def]
        return next(state for state in self.ledger.accounts() if state.account_id == account_id)

    # -- always

    @invariant()
    def books_balance(self) -> None:
        self.ledger.flush()
        self.ledger.check_invariant()
        states = {state.account_id: state for state in self.ledger.accounts()}
        for node, state in states.items():
            model = self.model.amounts(node)
            assert state.billed_micros == model.billed, node
            assert state.won_micros == model.won, node
            assert state.late_micros == model.late, node
            assert state.disputed_micros == model.disputed, node
            assert state.reserved_micros == model.reserved + self.model.extra_below(node), node
            below = [other for name, other in states.items() if name.rpartition("/")[0] == node]
            for column in ("billed_micros", "won_micros", "reserved_micros", "lease_unused_micros"):
                if below:
                    assert getattr(state, column) == sum(getattr(other, column) for other in below), column
            self.check_in_force(node, state.committed_micros)

    def check_in_force(self, node: str, committed: int) -> None:
        lifetime, _ = self.limits.get(node, (None, None))
        bounds = [lifetime] if lifetime is not None else []
        if "/" not in node:
            bounds.append(self.balance[node])
        if bounds and committed > min(bounds):
            assert committed <= self.committed[node], "more was committed beyond the limit"
        self.committed[node] = committed


def prices_for(cpm: int) -> st.SearchStrategy[int | None]:
    return st.one_of(st.integers(0, cpm), st.just(cpm), st.just(cpm + 1), st.integers(cpm, cpm * 3), st.none())


LedgerMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("HEADRACE_LEDGER_LIVES", "40")),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize="HEADRACE_LEDGER_LIVES" not in os.environ,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    database=None,
)
TestLedgerMachine = LedgerMachine.TestCase
