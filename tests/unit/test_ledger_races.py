"""Moments between two steps of the ledger: what must hold when something else happens just then."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace.errors import HeadraceError, InvalidRequestError, PreconditionError, StoreError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig, NoticeOutcome, Reason

NOW = 1_800_000_000_000
HOUR = 3_600_000
WIN, BILL, LOSS = 1, 2, 3
LINE = "adv/camp/line"


class Desk:
    """A ledger with one funded line item, and a clock to turn."""

    def __init__(self, folder: Path, config: LedgerConfig | None = None) -> None:
        self.folder, self.now, self.config = folder, NOW, config
        self.store = Store(folder / "store.db")
        self.ledger = self.open()
        assert self.ledger.try_acquire()
        self.ledger.fund("deposit", "adv", 1_000_000)
        self.ledger.set_account(LINE)

    def open(self) -> Ledger:
        return Ledger(self.folder, self.store, clock_ms=lambda: self.now, config=self.config)

    def restart(self) -> None:
        self.ledger.close()
        self.ledger = self.open()
        assert self.ledger.try_acquire()

    def try_reserve(self, *cpm: int) -> tuple[list[str | None], list[int]]:
        numbers = np.full(len(cpm), self.ledger.account_number(LINE), np.int32)
        tokens, reasons = self.ledger.reserve(numbers, np.array(cpm, np.int64), ["x"] * len(cpm), self.now)
        return tokens, reasons.tolist()

    def reserve(self, *cpm: int) -> list[str]:
        tokens, reasons = self.try_reserve(*cpm)
        assert set(reasons) == {Reason.OK}
        return [token for token in tokens if token is not None]

    def notify(self, kind: int, token: str, price: int | None = None) -> NoticeOutcome:
        return NoticeOutcome(int(self.ledger.notify([kind], [token], [price], self.now)[0]))

    def state(self, account_id: str = LINE):  # type: ignore[no-untyped-def]
        return next(state for state in self.ledger.accounts() if state.account_id == account_id)

    def pause_the_disk(self) -> Callable[[], None]:
        """From now on commits wait until the function that is returned is called."""
        go_on, waits = threading.Event(), threading.Event()

        def job(_: object) -> None:
            waits.set()
            assert go_on.wait(10)

        self.store.submit(job)
        assert waits.wait(10)
        return go_on.set

    def close(self) -> None:
        self.ledger.close()
        self.store.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.close()


def test_a_notice_kept_while_others_are_applied_twice_is_not_lost(desk: Desk) -> None:
    tokens = desk.reserve(1_000, 1_000)
    beside = desk.open()
    beside.notify([BILL], [tokens[0]], [1_000], desk.now)
    apply, read = desk.ledger._apply, desk.store.read

    def apply_late(*arguments: object) -> None:
        """Another thread of the owner applies the same rows first, then one more notice is kept."""
        desk.ledger._apply = apply  # type: ignore[method-assign]
        desk.ledger.tick(desk.now)
        assert read("SELECT count(*) FROM ledger_notices_pending") == [(0,)]
        beside.notify([BILL], [tokens[1]], [1_000], desk.now)
        apply(*arguments)  # type: ignore[arg-type]

    desk.ledger._apply = apply_late  # type: ignore[method-assign, assignment]
    desk.ledger.tick(desk.now)
    desk.ledger.tick(desk.now)
    assert desk.state().billed_micros == 2


def test_a_notice_of_a_lease_that_is_just_leaving_memory(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    token = desk.reserve(1_000)[0]
    desk.notify(LOSS, token)
    desk.now += 26 * HOUR
    desk.reserve(1_000)
    desk.ledger.flush()
    go_on = desk.pause_the_disk()
    condensed = desk.ledger._condense(desk.now)
    outcomes: list[NoticeOutcome] = []
    repeats = threading.Thread(target=lambda: outcomes.append(desk.notify(LOSS, token)))
    repeats.start()
    repeats.join(0.1)
    go_on()
    repeats.join(10)
    condensed.result()
    assert outcomes == [NoticeOutcome.DUPLICATE]
    assert desk.try_reserve(1_000)[1] == [Reason.OK], "a repeated notice fenced the ledger"
    desk.close()


def test_lifting_the_fence_is_not_undone_by_the_next_notice(desk: Desk, tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    elsewhere = Desk(tmp_path_factory.mktemp("elsewhere"))
    strange = elsewhere.reserve(1_000)[0]
    elsewhere.close()
    (desk.folder / "ledger.keys").write_bytes((elsewhere.folder / "ledger.keys").read_bytes())
    desk.restart()
    assert desk.notify(BILL, strange, 1_000) == NoticeOutcome.LATE
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]
    desk.ledger.unfence("ann", "reconciled")
    token = desk.reserve(1_000)[0]
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(BILL, strange, 1_000) == NoticeOutcome.DUPLICATE
    assert desk.try_reserve(1_000)[1] == [Reason.OK]


def test_records_of_a_ledger_that_was_replaced_never_reach_the_journal(desk: Desk) -> None:
    desk.reserve(1_000)
    desk.ledger.flush()
    native = desk.ledger._books.native
    native.recall(0)
    native.freeze()
    assert native.take_records() == b""
    native.set_closed(Reason.OK)
    numbers, cpm = np.array([desk.ledger.account_number(LINE)], np.int32), np.array([1_000], np.int64)
    reasons, wide = np.full(1, Reason.NEED_LEASE, np.int8), np.zeros(1, np.int64)
    native.reserve(numbers, cpm, np.zeros(1, np.int32), NOW, NOW, reasons, wide, wide.copy(), np.zeros(1, np.int32))
    assert reasons[0] == Reason.JOURNAL_UNAVAILABLE


def test_a_refund_leaves_nothing_to_whoever_reserves_meanwhile(desk: Desk) -> None:
    state = desk.ledger._books.state
    taken: list[int] = []

    def state_then_reserve(number: int, before_ms: int):  # type: ignore[no-untyped-def]
        found = state(number, before_ms)
        if not taken:
            taken.extend(desk.try_reserve(900_000_000)[1])
        return found

    desk.ledger._books.state = state_then_reserve  # type: ignore[method-assign]
    try:
        desk.ledger.fund("refund", "adv", -900_000)
        refunded = 900_000
    except PreconditionError:
        refunded = 0
    assert taken
    root = desk.state("adv")
    assert root.committed_micros <= 1_000_000 - refunded
    assert root.budget_in_force_micros == 1_000_000 - refunded


def test_deposits_cannot_add_up_beyond_what_can_be_counted(desk: Desk) -> None:
    desk.ledger.fund("all", "adv", 10**17 - 1_000_000)
    with pytest.raises(InvalidRequestError, match="in all"):
        desk.ledger.fund("one more", "adv", 1)
    desk.restart()
    desk.reserve(1_000)


def test_lease_ids_never_repeat_when_the_clock_is_set_back(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    token = desk.reserve(1_000)[0]
    desk.notify(BILL, token, 1_000)
    desk.now += 26 * HOUR
    desk.ledger.tick(desk.now)
    desk.ledger._condense(desk.now).result()
    assert desk.store.read("SELECT count(*) FROM ledger_leases") == [(1,)]
    desk.now = NOW
    desk.restart()
    again = desk.reserve(1_000)[0]
    assert again != token
    assert desk.notify(BILL, again, 1_000) == NoticeOutcome.ACCEPTED
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.DUPLICATE
    assert desk.state().billed_micros == 2
    desk.close()


def test_a_token_has_one_spelling(desk: Desk) -> None:
    tokens = desk.reserve(*[1_000] * 200)
    spelled = [token for token in tokens if set(token) & {"-", "_"}]
    assert spelled
    other = [token.replace("-", "+").replace("_", "/") for token in spelled]
    outcomes = desk.ledger.notify([BILL] * len(other), other, [1_000] * len(other), desk.now)
    assert set(outcomes.tolist()) == {NoticeOutcome.REFUSED}


@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE"])
def test_an_audit_row_cannot_be_replaced(desk: Desk, verb: str) -> None:
    before = desk.store.read("SELECT * FROM ledger_audit ORDER BY audit_id")
    statement = f"{verb} INTO ledger_audit VALUES (1, 0, 'eve', 'fund', 'adv', '', '', '')"
    with pytest.raises(StoreError, match="immutable"):
        desk.store.write(lambda connection: connection.execute(statement))
    assert desk.store.read("SELECT * FROM ledger_audit ORDER BY audit_id") == before


def test_a_process_beside_the_owner_reports_a_cut_as_the_owner_does(desk: Desk) -> None:
    tokens = desk.reserve(*[100_000] * 5)
    desk.ledger.notify([WIN] * 5, tokens, [100_000] * 5, desk.now)
    desk.ledger.set_account(LINE, lifetime_micros=200)
    desk.ledger.flush()
    beside = desk.open()
    beside.check_invariant()
    states = {state.account_id: state for state in beside.accounts()}
    assert states[LINE].budget_in_force_micros == 500


def test_a_failure_after_the_commit_reaches_whoever_waits(desk: Desk) -> None:
    def fails(_: int) -> None:
        raise OverflowError("money")

    with pytest.raises(OverflowError):
        desk.ledger._journal.submit(lambda: b"", fails).result(5)
    with pytest.raises(HeadraceError):
        desk.ledger._journal.submit(lambda: b"").result(5)


def test_a_tripped_breaker_that_is_released_at_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, LedgerConfig(max_micros_per_minute=25))
    tokens = desk.reserve(*[30_000] * 2)
    desk.notify(BILL, tokens[0], 30_000)
    assert desk.try_reserve(1_000)[1] == [Reason.BRAKE]
    desk.ledger.brake("", "adv", False, "checked", "ann")
    assert desk.try_reserve(1_000)[1] == [Reason.OK]
    desk.close()


def test_a_fenced_ledger_is_never_open_for_a_moment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.ledger.fence("restored", "ann")
    desk.ledger.close()
    desk.ledger = desk.open()
    seen: list[int] = []
    books = property(lambda self: self.kept, lambda self, books: _keep(self, books, seen))
    desk.ledger.kept = desk.ledger._books  # type: ignore[attr-defined]
    monkeypatch.setattr(Ledger, "_books", books, raising=False)
    assert desk.ledger.try_acquire()
    assert seen == [Reason.FENCED]
    desk.ledger.close()


def _keep(ledger: Ledger, books, seen: list[int]) -> None:  # type: ignore[no-untyped-def]
    reasons, wide = np.full(1, Reason.NEED_LEASE, np.int8), np.zeros(1, np.int64)
    number = np.array([books.numbers[LINE]], np.int32)
    books.native.reserve(
        number,
        np.array([1], np.int64),
        np.zeros(1, np.int32),
        NOW,
        NOW,
        reasons,
        wide,
        wide.copy(),
        np.zeros(1, np.int32),
    )
    seen.append(int(reasons[0]))
    ledger.kept = books  # type: ignore[attr-defined]


def test_names_of_exchanges_do_not_pile_up(desk: Desk) -> None:
    number = desk.ledger.account_number(LINE)
    for first in range(0, 20_000, 1_000):
        names = [f"exchange {n}" for n in range(first, first + 1_000)]
        desk.ledger.reserve(np.full(1_000, number, np.int32), np.full(1_000, 1_000, np.int64), names, desk.now)
    books = desk.ledger._books
    assert len(books.exchanges.numbers) + len(books._hashes) < 10_000


def test_a_key_added_beside_is_known_at_its_first_notice(desk: Desk) -> None:
    from headrace.ledger.tokens import TokenKeys

    beside = desk.open()
    TokenKeys(desk.folder / "ledger.keys").rotate()
    desk.restart()
    token = desk.reserve(1_000)[0]
    assert beside.notify([BILL], [token], [1_000], desk.now)[0] == NoticeOutcome.ACCEPTED
    desk.ledger.tick(desk.now)
    assert desk.state().billed_micros == 1


def test_an_owner_whose_lock_file_was_removed_stops(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    (desk.folder / "ledger.lock").unlink()
    beside = desk.open()
    assert beside.try_acquire()
    desk.now += 200
    assert desk.try_reserve(1_000)[1] == [Reason.NOT_OWNER]
    assert not desk.ledger.try_acquire()
    assert beside.notify([BILL], [token], [1_000], desk.now)[0] == NoticeOutcome.ACCEPTED
    beside.check_invariant()
    beside.close()


def test_lost_keys_stop_bidding_until_someone_has_looked(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    desk.ledger.close()
    kept = desk.folder / "ledger.keys"
    secret = kept.read_bytes()
    kept.unlink()
    desk.restart()
    assert desk.try_reserve(1_000)[1] == [Reason.FENCED]
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.FORGED
    desk.ledger.close()
    kept.write_bytes(secret)
    desk.restart()
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.ACCEPTED
    desk.ledger.unfence("ann", "the keys are back")
    desk.reserve(1_000)


def test_an_owner_without_its_lock_does_not_take_the_ledger_back(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    (desk.folder / "ledger.lock").unlink()
    beside = desk.open()
    assert beside.try_acquire()
    with pytest.raises(HeadraceError):
        desk.notify(BILL, token, 1_000)
    assert desk.try_reserve(1_000)[1] in ([Reason.NOT_OWNER], [Reason.JOURNAL_UNAVAILABLE])
    assert not desk.ledger.owned
    assert desk.notify(BILL, token, 1_000) == NoticeOutcome.ACCEPTED, "kept for the new owner"
    beside.tick(desk.now)
    number = np.array([beside.account_number(LINE)], np.int32)
    assert beside.reserve(number, np.array([1_000]), ["x"], desk.now)[1].tolist() == [Reason.OK]
    beside.flush()
    assert beside.spent(number).tolist() == [1]
    beside.close()


def test_a_bid_waits_for_no_notice_of_others(desk: Desk) -> None:
    token = desk.reserve(1_000)[0]
    desk.open().notify([BILL], [token], [1_000], desk.now)
    desk.now += 200
    go_on = desk.pause_the_disk()
    taken: list[list[int]] = []
    bid = threading.Thread(target=lambda: taken.append(desk.try_reserve(1_000)[1]))
    bid.start()
    bid.join(5)
    waited = bid.is_alive()
    go_on()
    bid.join(10)
    assert not waited
    assert taken == [[Reason.OK]]
    assert desk.state().billed_micros == 0
    desk.ledger.tick(desk.now)
    assert desk.state().billed_micros == 1


def test_an_edit_while_the_journal_is_broken_leaves_no_ledger_that_still_reserves(desk: Desk) -> None:
    desk.reserve(1_000)
    desk.ledger.flush()
    native = desk.ledger._books.native
    desk.ledger._journal.broken = True
    desk.ledger.set_account(LINE, lifetime_micros=500_000)
    number = np.array([desk.ledger.account_number(LINE)], np.int32)
    reasons, wide = np.full(1, Reason.NEED_LEASE, np.int8), np.zeros(1, np.int64)
    native.reserve(  # a thread that began before the edit
        number,
        np.array([1_000], np.int64),
        np.zeros(1, np.int32),
        NOW,
        NOW,
        reasons,
        wide,
        wide.copy(),
        np.zeros(1, np.int32),
    )
    assert reasons[0] == Reason.JOURNAL_UNAVAILABLE
    desk.reserve(1_000)
    assert desk.state().reserved_micros == 2
