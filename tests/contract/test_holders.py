"""Ledgers that spend one budget together, over both authorities: what each may spend, and what reaches the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.authority.authority import Authority
from headrace.authority.held import HeldLedger
from headrace.authority.opening import open_ledger
from headrace.authority.schema import HolderState
from headrace.authority.settings import AuthorityConfig
from headrace.errors import (
    AuthorityUnreachableError,
    ConfigError,
    LedgerNotOwnerError,
    NotFoundError,
    PreconditionError,
)
from headrace.events.store import Store
from headrace.ledger.budgets import put_fence
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, NoticeType, Reason
from headrace.ledger.recovery import load_view

NOW = 1_800_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
LEAVES = ("a/c/x", "a/c/y")


class Gate:
    """A database that can be out of reach, or whose answers get lost after the commit."""

    def __init__(self, database: Any) -> None:
        self.database, self.away, self.loses = database, False, False
        self.around: Callable[[], Callable[[], None]] | None = None

    def _run(self, call: Any, job: Any) -> Any:
        if self.away:
            raise AuthorityUnreachableError("the authority is away")
        result = call(job)
        if self.loses:
            raise AuthorityUnreachableError("the answer is lost")
        return result

    def write(self, job: Any) -> Any:
        after = self.around() if self.around is not None else None
        result = self._run(self.database.write, job)
        if after is not None:
            after()
        return result

    def read(self, job: Any) -> Any:
        return self._run(self.database.read, job)

    def close(self) -> None:
        self.database.close()


class Process:
    """What one bidding process has: a folder, a store, a ledger and its holder, without a thread."""

    def __init__(self, world: World, name: str, away: bool = False) -> None:
        self.world, self.name = world, name
        self.authority = world.authority(name)
        self.gate = self.authority.database = Gate(self.authority.database)
        self.gate.away = away
        folder = world.folder / name
        self.store = Store(folder / "store.db")
        config = LedgerConfig(billing_window_ms=90 * DAY_MS)
        self.ledger = HeldLedger(
            folder, self.store, clock_ms=lambda: world.now_ms, authority=self.authority, config=config
        )
        self.ledger.holder._seconds = lambda: world.seconds
        world.opened.append(self)
        assert self.ledger.try_acquire()

    def step(self) -> None:
        with suppress(AuthorityUnreachableError):
            self.ledger.holder.step()
        self.ledger.tick(self.world.now_ms)

    def bid(self, micros: int, leaf: str = "a/c/x", n: int = 1) -> list[str | None]:
        number = self.ledger.account_number(leaf)
        tokens, self.reasons = self.ledger.reserve(
            np.full(n, number, np.int32), np.full(n, micros * 1000, np.int64), ["x"] * n, self.world.now_ms
        )
        return tokens

    def win(self, micros: int, leaf: str = "a/c/x") -> str:
        """Bid until it is taken, as traffic does."""
        for _ in range(4):
            token = self.bid(micros, leaf)[0]
            if token is not None:
                return token
            self.world.step()
        raise AssertionError(f"{self.name} gets no {micros} micros: {self.reasons}")

    def tell(self, kind: NoticeType, token: str, micros: int | None = None) -> NoticeOutcome:
        price = None if micros is None else micros * 1000
        return NoticeOutcome(int(self.ledger.notify([kind], [token], [price], self.world.now_ms)[0]))

    def brakes(self) -> list[Any]:
        return self.store.read("SELECT exchange, advertiser_id FROM ledger_brakes")

    def die(self) -> None:
        """Stop as kill -9 does: nothing is given back, nothing told."""
        self.ledger._resign()
        self.store.close()
        self.authority.close()


class World:
    """Some processes over one authority, and their time."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.now_ms, self.seconds = NOW, 0.0
        self.processes: dict[str, Process] = {}
        self.opened: list[Process] = []

    def start(self, *names: str) -> list[Process]:
        for name in names:
            self.processes[name] = Process(self, name)
            self.processes[name].step()
        return [self.processes[name] for name in names]

    def funded(self, balance: int, *names: str, **limits: Any) -> list[Process]:
        started = self.start(*names)
        started[0].ledger.fund("deposit", "a", balance)
        for leaf in LEAVES:
            started[0].ledger.set_account(leaf, **limits)
        self.step()
        return started

    def step(self, seconds: float = 1.1) -> None:
        """Let time pass, then each process do what is to do, twice: what one gives back the other may take."""
        self.now_ms += round(seconds * 1000)
        self.seconds += seconds
        for _ in range(2):
            for process in self.processes.values():
                process.step()

    def kill(self, name: str) -> None:
        self.processes.pop(name).die()

    def check(self) -> None:
        """Everything balances, in each ledger and at the authority, and no ledger has more than it was allotted."""
        with closing(self.authority()) as authority:
            operators.check_books(authority)
            assert operators.over_limits(authority) == []
        for process in self.processes.values():
            process.ledger.check_invariant()
            rows = process.ledger.books.native.leaf_days().reshape(-1, 3).tolist()
            allotted = self.allotted(process)
            assert all(micros <= allotted.get((leaf, day), 0) for leaf, day, micros in rows)

    def authority(self, name: str = "") -> Authority:
        config = AuthorityConfig(url=self.url, name=name, timeout_ms=60_000)
        return Authority(config, clock_ms=lambda: self.now_ms)

    def allotted(self, process: Process) -> dict[tuple[int, int], int]:
        """What the authority has allotted to a process, by line item and day."""
        query = "SELECT account, day, allotted FROM authority_allotments WHERE holder = ?"
        rows = process.gate.database.read(lambda sql: sql.execute(query, (process.ledger.holder.name,)).fetchall())
        return {(row[0], row[1]): row[2] for row in rows}

    def close(self) -> None:
        for process in self.processes.values():
            process.gate.away = process.gate.loses = False
            process.ledger.close()
        for process in self.opened:  # closing again is of no matter
            process.store.close()
            process.authority.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/authority.db"
    else:
        url = request.getfixturevalue("postgres").new_database()
    with closing(World(tmp_path, url)) as world:
        yield world


# -- money


def test_two_processes_spend_one_budget_to_the_last_micro(world: World) -> None:
    one, two = world.funded(10_000, "one", "two")
    won: dict[str, int] = {"one": 0, "two": 0}
    in_vain = 0
    while in_vain < 3:
        before = sum(won.values())
        for process in (one, two):
            for _ in range(20):
                won[process.name] += sum(token is not None for token in process.bid(7, "a/c/x"))
                won[process.name] += sum(token is not None for token in process.bid(7, "a/c/y"))
        world.step()
        world.check()
        in_vain = in_vain + 1 if sum(won.values()) == before else 0
    assert sum(won.values()) == 10_000 // 7
    assert min(won.values()) > 300  # both had their part
    while not one.bid(10_000 % 7)[0]:
        world.step()
    world.check()
    assert {state.account_id: state.committed_micros for state in one.ledger.accounts()}["a"] == 10_000


def test_nothing_is_reserved_before_registering(world: World) -> None:
    (one,) = world.funded(1000, "one")
    one.win(10)
    world.kill("one")
    again = Process(world, "one", away=True)
    world.processes["one"] = again
    assert again.bid(1) == [None]
    assert again.reasons.tolist() == [Reason.AUTHORITY]
    again.gate.away = False
    again.step()
    again.win(10)
    world.check()


def test_a_killed_process_comes_back_to_its_allotment(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(600)
    world.kill("one")
    world.step()
    assert two.bid(401) == [None]
    (one,) = world.start("one")
    assert one.ledger.spent(np.array([0], np.int32)).tolist() == [0]
    assert one.tell(NoticeType.BILLING, token, 550) == NoticeOutcome.ACCEPTED
    world.step()
    two.win(450)
    world.step()
    assert two.bid(1) == [None]
    world.check()


def test_a_drained_process_leaves_only_what_is_reserved(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(100)
    process = world.processes.pop("one")
    process.ledger.close()
    process.store.close()
    rows = operators.holders(two.authority)
    assert [(row.name, row.state, row.allotted) for row in rows if row.name == "one"] == [
        ("one", HolderState.GONE, 100)
    ]
    two.win(900)
    world.check()


def test_a_lost_machine_is_fenced_written_off_and_found_again(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(200)
    world.step()
    holder = one.ledger.holder.name
    operators.fence_holder(two.authority, holder, "ann", "no answer")
    world.step()
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.AUTHORITY]
    assert "fenced" in one.ledger.holder.refused
    with pytest.raises(PreconditionError, match="isolation"):
        operators.write_off(two.authority, holder, "ann", "no answer")
    world.now_ms += HOUR_MS + 1
    operators.write_off(two.authority, holder, "ann", "no answer")
    two.win(800)
    assert one.tell(NoticeType.BILLING, token, 200) == NoticeOutcome.ACCEPTED  # its own books go on
    world.kill("one")
    operators.lift_holder(two.authority, holder, "ann", "it was the switch")
    world.start("one")
    world.check()


def test_a_restored_folder_gives_nothing_back_before_it_is_reconciled(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(100)
    world.step()
    holder = one.ledger.holder.name
    one.authority.database.write(  # what the backup does not have
        lambda sql: sql.execute("UPDATE authority_holders SET sequence = sequence + 5 WHERE name = 'one'")
    )
    world.kill("one")
    (one,) = world.start("one")
    assert "newer data folder" in one.ledger.holder.refused
    one.store.write(lambda sql: put_fence(sql, "restored", (world.now_ms, "ann", "")))
    world.kill("one")
    operators.fence_holder(two.authority, holder, "ann", "restored")
    operators.lift_holder(two.authority, holder, "ann", "restored")
    (one,) = world.start("one")
    assert one.ledger.holder.refused == ""
    before = one.ledger.holder.money()
    two.bid(1000)
    world.step()
    assert one.ledger.holder.money() == before
    one.ledger.unfence("ann", "reconciled")
    two.win(900)
    world.check()


def test_a_copied_folder_stops_the_first_one_for_good(world: World) -> None:
    one, _ = world.funded(1000, "one", "two")
    one.win(100)
    with closing(world.authority()) as other:
        other.register(one.ledger.holder.name, "", 10**9, [])
    world.step()
    world.step()
    assert "registered again" in one.ledger.holder.refused
    assert one.bid(1) == [None]


def test_an_hour_without_the_authority(world: World) -> None:
    """It bids on from what is allotted to it, then stops and says why, and goes on by itself."""
    one, two = world.funded(100_000, "one", "two")
    one.win(10)
    one.gate.away = two.gate.away = True
    world.step()
    assert one.bid(10)[0] is not None
    while one.bid(10)[0] is not None:
        pass
    assert one.reasons.tolist() == [Reason.AUTHORITY]
    world.step(1800)
    assert one.bid(10) == [None]
    world.check()
    one.gate.away = two.gate.away = False
    world.step()
    one.win(10)
    world.check()


def test_isolation_ends_bidding_though_money_is_left(world: World) -> None:
    one, two = world.funded(100_000, "one", "two")
    one.win(10)
    one.gate.away = True
    for _ in range(6):
        assert one.bid(10)[0] is not None
        world.step(599)
    assert one.bid(10)[0] is not None
    world.step(10)
    assert one.bid(10) == [None]
    assert one.reasons.tolist() == [Reason.AUTHORITY]
    holder = one.ledger.holder.name
    operators.fence_holder(two.authority, holder, "ann", "cut off")
    assert operators.write_off(two.authority, holder, "ann", "cut off") > 0
    assert one.bid(10) == [None]
    operators.lift_holder(two.authority, holder, "ann", "its books are to be brought in")
    world.kill("one")
    world.start("one")  # what it spent while cut off counts again
    world.check()


def test_what_is_given_back_was_written_down_first(world: World) -> None:
    """Whatever the disk held when the authority was told fits what it allots afterwards: a power cut costs nothing."""
    one, two = world.funded(3000, "one", "two")
    checks: list[int] = []

    def on_disk(process: Process) -> dict[tuple[int, int], int]:
        books = load_view(process.store.read, process.ledger.config, world.now_ms)
        rows = books.native.leaf_days().reshape(-1, 3).tolist()
        return {(leaf, day): micros for leaf, day, micros in rows}

    def around(process: Process) -> Callable[[], None]:
        before = on_disk(process)

        def after() -> None:
            allotted = world.allotted(process)
            assert all(micros <= allotted.get(key, 0) for key, micros in before.items())
            checks.append(sum(before.values()))

        return after

    for process in (one, two):
        process.gate.around = lambda process=process: around(process)  # type: ignore[misc]
    for turn in range(3):
        # the first has a lease that it hardly uses when the second needs all there is, and the other way round
        first, second = (one, two) if turn % 2 else (two, one)
        small = first.win(9)
        large = second.win(2900)
        first.tell(NoticeType.LOSS, small)
        second.tell(NoticeType.LOSS, large)
        world.step()
    for process in (one, two):
        process.gate.around = None
    assert max(checks) > 2000
    world.check()


def test_lost_answers_allot_nothing_twice(world: World) -> None:
    one, two = world.funded(10_000, "one", "two")
    for turn in range(30):
        one.gate.loses = turn % 3 != 0
        two.gate.loses = turn % 4 != 0
        one.bid(9, n=5)
        two.bid(11, n=5)
        world.step()
        world.check()
    one.gate.loses = two.gate.loses = False
    world.step()
    assert one.ledger.holder.money()[0] + two.ledger.holder.money()[0] <= 10_000
    one.win(9)


def test_an_authority_that_lost_its_last_minutes_is_registered_with_again(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(300)
    world.step()
    one.authority.database.write(  # type: ignore[attr-defined]
        lambda sql: (
            sql.execute("UPDATE authority_holders SET number = 0 WHERE name = 'one'"),
            sql.execute("DELETE FROM authority_allotments"),
            sql.execute("DELETE FROM authority_totals"),
        )
    )
    for _ in range(3):
        world.step()
    world.check()
    assert one.ledger.holder.refused == ""
    two.win(600)
    assert two.bid(101) == [None]
    world.check()


def test_limits_of_a_restored_authority_bind_though_their_version_was_seen_before(world: World) -> None:
    one, two = world.funded(1000, "one", "two", lifetime_micros=1000)
    world.step()

    def restore(sql: Any) -> None:
        sql.execute("UPDATE ledger_accounts SET lifetime_micros = 100 WHERE account_id = 'a/c/x'")
        sql.execute("UPDATE authority_holders SET epoch = 0, number = 0")

    one.authority.database.write(restore)
    for _ in range(3):
        world.step()
    one.win(40)
    two.win(40)
    for process in (one, two):
        assert process.bid(30) == [None]
        world.step()
        assert process.bid(30) == [None]
    assert operators.over_limits(one.authority) == []


# -- days


def test_a_day_begins_with_its_own_money(world: World) -> None:
    one, two = world.funded(10_000, "one", "two", daily_micros=100)
    midnight = NOW - NOW % DAY_MS + DAY_MS
    token = one.win(60)
    world.now_ms = midnight - 10_000
    two.win(40)
    assert one.bid(1) == [None]
    world.step()
    world.now_ms = midnight + 1
    assert one.bid(60)[0] is None or one.bid(40)[0] is not None
    world.step()
    one.win(1)
    world.step()
    world.check()
    assert one.tell(NoticeType.LOSS, token) == NoticeOutcome.ACCEPTED
    world.step()
    world.now_ms += HOUR_MS
    world.step()
    assert one.ledger.books.native.allotted_books(
        np.array([one.ledger.account_number("a/c/x")], np.int32), np.array([(midnight - 1) // DAY_MS], np.int32)
    ).tolist() == [0, 0, 0, 0]  # yesterday's money went back
    world.check()


def test_the_next_days_money_is_there_when_it_begins(world: World) -> None:
    (one,) = world.funded(100_000, "one", daily_micros=1000)
    midnight = NOW - NOW % DAY_MS + DAY_MS
    world.now_ms = midnight - 15_000
    one.win(10)
    world.step()
    one.win(10)
    world.step()
    world.now_ms = midnight
    assert one.bid(10)[0] is not None
    world.check()


@pytest.mark.parametrize("jump_ms", [-3 * DAY_MS, 3 * DAY_MS])
def test_a_clock_that_jumps_spends_nothing_twice(world: World, jump_ms: int) -> None:
    one, two = world.funded(1000, "one", "two", daily_micros=400)
    one.win(300)
    world.now_ms += jump_ms
    world.step()
    two.win(250)
    world.now_ms -= jump_ms
    world.step()
    assert two.bid(101) == [None]
    world.step()
    two.win(100)
    world.check()


# -- edits, brakes, fences


def test_edits_reach_every_process(world: World) -> None:
    one, two = world.funded(10_000, "one", "two")
    two.ledger.set_account("a/c/x", daily_micros=50)
    two.ledger.fund("more", "a", 5000)
    one.step()
    states = {state.account_id: state for state in one.ledger.accounts()}
    assert states["a"].budget_in_force_micros == 15_000
    assert one.bid(60) == [None]
    one.win(50)
    assert one.ledger.account_number("a/c/x") == two.ledger.account_number("a/c/x")


def test_a_cut_below_what_is_committed_binds_and_unused_money_goes_back(world: World) -> None:
    one, two = world.funded(10_000, "one", "two")
    one.win(2000)
    two.ledger.set_account("a/c", lifetime_micros=2500)
    world.step()
    world.step()
    world.check()
    assert one.bid(501) == [None]
    world.step()
    assert two.bid(501) == [None]
    one.win(250)
    two.win(250)
    world.check()


def test_a_refund_takes_what_others_do_not_use(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(100)
    two.win(100)
    monkeypatch.setattr(operators.time, "sleep", lambda _: world.step(0.2))
    one.ledger.fund("back", "a", -800)
    world.check()
    assert one.bid(1) == [None]
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 0.0)
    with pytest.raises(PreconditionError, match="at most 0 micros"):
        one.ledger.fund("back too", "a", -1)


def test_brakes_and_fences_reach_every_process(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(10)
    two.win(10)
    one.ledger.brake("", "", True, "stop", "ann")
    assert one.bid(1) == [None]
    two.step()
    assert two.bid(1) == [None]
    assert two.reasons.tolist() == [Reason.BRAKE]
    two.ledger.brake("", "", False, "go", "ann")
    one.step()
    one.win(1)
    two.ledger.fence("look first", "ann")
    one.step()
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.FENCED]
    one.ledger.unfence("ann", "looked")
    two.step()
    two.win(1)


def test_a_brake_engaged_while_the_authority_is_away_is_told_later(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.win(10)
    one.gate.away = True
    with pytest.raises(AuthorityUnreachableError, match="this process is braked"):
        one.ledger.brake("", "a", True, "stop", "ann")
    assert one.bid(1) == [None]
    assert one.reasons.tolist() == [Reason.BRAKE]
    with pytest.raises(AuthorityUnreachableError, match="nothing was released"):
        one.ledger.brake("", "a", False, "go", "ann")
    one.gate.away = False
    world.step()
    assert two.brakes() == [("", "a")]
    two.ledger.brake("", "a", False, "go", "ann")
    world.step()
    assert one.brakes() == []
    one.win(1)


def test_edits_without_the_authority_say_so_and_change_nothing(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    one.gate.away = True
    with pytest.raises(AuthorityUnreachableError):
        one.ledger.set_account("a/c/x", lifetime_micros=1)
    with pytest.raises(AuthorityUnreachableError):
        one.ledger.fund("more", "a", 5)
    with pytest.raises(AuthorityUnreachableError, match="alone is fenced"):
        one.ledger.fence("look", "ann")
    assert one.ledger.fenced
    assert not two.ledger.fenced
    one.gate.away = False
    one.ledger.unfence("ann", "looked")
    assert not one.ledger.fenced
    one.win(10)


# -- notices


def test_a_notice_at_another_process_is_settled_once_by_the_holder(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    heard: list[Any] = []
    one.ledger.on_settled = lambda *columns: heard.append(columns)
    token = one.win(100)
    for _ in range(3):
        assert two.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.ACCEPTED
    world.step()
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    assert one.ledger.spent(number).tolist() == [80]
    assert two.ledger.spent(number).tolist() == [0]
    assert one.tell(NoticeType.BILLING, token, 80) == NoticeOutcome.DUPLICATE
    assert heard == [([NoticeType.BILLING], [token], [80_000])]
    assert not two.ledger.fenced
    world.step()
    assert {state.account_id: state.billed_micros for state in two.ledger.accounts()}["a"] == 80
    world.check()


def test_notices_of_a_dead_holder_are_kept_until_it_is_back(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(100)
    world.kill("one")
    two.gate.away = True
    assert two.tell(NoticeType.WIN, token, 80) == NoticeOutcome.ACCEPTED  # kept here at first
    two.gate.away = False
    world.step()
    assert [row.notices for row in operators.holders(two.authority) if row.name == "one"] == [1]
    (one,) = world.start("one")
    world.step()
    assert one.tell(NoticeType.WIN, token, 80) == NoticeOutcome.DUPLICATE
    assert [row.notices for row in operators.holders(two.authority)] == [0, 0]


def test_a_notice_of_a_holder_that_has_just_come_is_no_forgery(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    (three,) = world.start("three")
    number = np.array([three.ledger.account_number("a/c/x")], np.int32)
    three.ledger.reserve(number, np.array([1000], np.int64), ["x"], NOW)
    world.seconds += 2
    three.step()
    token = three.bid(1)[0]
    assert token is not None
    assert two.tell(NoticeType.WIN, token, 1) == NoticeOutcome.ACCEPTED
    assert one.tell(NoticeType.WIN, token[:-4] + "AAAA", 1) == NoticeOutcome.FORGED


def test_a_notice_that_comes_while_keys_are_learned_is_not_taken_for_an_own_one(world: World) -> None:
    """Whoever can verify a token knows whose it is, at each moment: else its lease would be missed, and fence."""
    one, two = world.funded(1000, "one", "two")
    (three,) = world.start("three")
    three.bid(1)
    world.seconds += 2
    three.step()
    token = three.bid(1)[0]
    assert token is not None
    outcomes: list[NoticeOutcome] = []
    take_keys = one.ledger.take_keys

    def taken(*keys: Any) -> None:
        take_keys(*keys)
        outcomes.append(one.tell(NoticeType.WIN, token, 1))  # as another thread may at this moment

    one.ledger.take_keys = taken  # type: ignore[method-assign, assignment]
    one.step()
    assert outcomes == [NoticeOutcome.ACCEPTED]
    assert not one.ledger.fenced
    one.step()
    assert [row.notices for row in operators.holders(two.authority) if row.name == "three"] == [1]


def test_a_reservation_is_closed_where_it_was_made(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    token = one.win(100)
    with pytest.raises(LedgerNotOwnerError, match="reserved this"):
        two.ledger.close_reservation(token, "ann", "bill file")
    assert one.ledger.close_reservation(token, "ann", "bill file") == NoticeOutcome.ACCEPTED


def test_keys_are_rotated_through_the_authority(world: World) -> None:
    one, two = world.funded(1000, "one", "two")
    old = one.win(10)
    one.authority.rotate_key(one.ledger.holder.name)
    world.step()
    new = one.win(10)
    assert two.tell(NoticeType.WIN, old, 1) == two.tell(NoticeType.WIN, new, 1) == NoticeOutcome.ACCEPTED
    world.step()
    assert one.tell(NoticeType.WIN, old, 1) == one.tell(NoticeType.WIN, new, 1) == NoticeOutcome.DUPLICATE
    keys, _, _ = one.ledger._keys.verify([old, new])
    assert keys["key"].tolist() == [1000, 1002]


# -- odd folders


def test_a_folder_with_money_of_its_own_is_refused(world: World) -> None:
    folder = world.folder / "own"
    store = Store(folder / "store.db")
    alone = Ledger(folder, store, clock_ms=lambda: NOW)
    alone.fund("deposit", "z", 5)
    alone.close()
    store.close()
    (own,) = world.start("own")
    assert "of its own" in own.ledger.holder.refused
    with pytest.raises(NotFoundError):
        own.ledger.account_number("a/c/x")


def test_a_folder_of_an_authority_does_not_bid_without_it(world: World) -> None:
    (one,) = world.funded(1000, "one")
    one.die()
    store = Store(world.folder / "one" / "store.db")
    asked = {"clock_ms": lambda: NOW, "ledger": LedgerConfig(), "authority": AuthorityConfig()}
    with closing(store), pytest.raises(ConfigError, match="authority"):  # it would spend the whole copied balance
        open_ledger(world.folder / "one", store, **asked)


def test_parts_follow_traffic(world: World) -> None:
    one, two = world.funded(1_000_000, "one", "two")
    for _ in range(20):
        for _ in range(30):
            one.bid(1)
        world.step(10)
    number = np.array([one.ledger.account_number("a/c/x")], np.int32)
    first, second = (process.ledger.spendable(number, world.now_ms)[0] for process in (one, two))
    assert first > 1.5 * second > 0
    assert first + second < 1_100_000  # each as of its own last look
