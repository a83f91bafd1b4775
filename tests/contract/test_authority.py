"""One suite over both authorities: what is allotted is never more than there is, whatever is repeated or lost."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.authority import Amounts, Authority, Claim, Report
from headrace.authority.database import open_database
from headrace.authority.grants import KEEP_ALL, NEED_MS, Change
from headrace.authority.notices import Forwarded, drop_notices, send_notices, waiting_notices
from headrace.authority.schema import LIFE, HolderState
from headrace.authority.settings import AuthorityConfig
from headrace.authority.views import books_since, settings_since, totals_since
from headrace.errors import (
    AuthorityUnreachableError,
    ConfigError,
    HolderRefusedError,
    LedgerError,
    LostRenewalError,
    NotFoundError,
    PreconditionError,
)
from headrace.ledger.budgets import find_account, put_account, put_brake, put_fence
from headrace.ledger.journal import query_of

NOW = 1_800_000_000_000
TODAY = 20_833
LEAVES = ("a/c/x", "a/c/y", "a/d/z")


class Rig:
    """A database's URL, a clock, and holders that speak as the ledgers would."""

    def __init__(self, url: str) -> None:
        self.config = AuthorityConfig(url=url, name="test", timeout_ms=60_000)
        self.now_ms = NOW
        self.opened: list[Authority] = []

    def open(self, **settings: Any) -> Authority:
        authority = Authority(replace(self.config, **settings), clock_ms=lambda: self.now_ms)
        self.opened.append(authority)
        return authority

    def funded(self, balance: int = 1_000_000) -> Authority:
        authority = self.open()
        operators.fund(authority, "deposit", "a", balance, "USD", "ann")
        for leaf in LEAVES:
            self.limit(authority, leaf)
        return authority

    def limit(self, authority: Authority, account_id: str, **settings: Any) -> int:
        return authority.database.write(
            lambda sql: put_account(sql, account_id, settings, self.now_ms, "ann", "test").number  # type: ignore[arg-type]
        )

    def holder(self, authority: Authority, name: str) -> Speaker:
        return Speaker(authority, name)

    def close(self) -> None:
        for authority in self.opened:
            authority.close()


class Speaker:
    """A holder without a ledger: registers, renews, and remembers what it was allotted."""

    def __init__(self, authority: Authority, name: str, committed: tuple[tuple[int, int, int], ...] = ()) -> None:
        self.authority, self.name = authority, name
        self.sequence = 1
        registration = authority.register(name, "", self.sequence, committed)
        self.epoch, self.number = registration.epoch, 0
        self.has = {(account, day): micros for account, day, micros in registration.allotments}

    def renew(self, *changes: Change, sent: bool = True) -> list[int]:
        claim = Claim(self.name, self.epoch, self.number + 1)
        renewal = self.authority.renew(claim, changes, Report(self.sequence, 60))
        if sent:
            self.number += 1
            self.has |= {
                (change.account, change.day): micros for change, micros in zip(changes, renewal.allotted, strict=True)
            }
        return renewal.allotted

    def ask(self, account: int, least: int = 1, wish: int = 0, day: int = TODAY) -> int:
        before = self.has.get((account, day), 0)
        return self.renew(Change(account, day, KEEP_ALL, 0, least, wish))[0] - before


@pytest.fixture(params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/authority.db"
    else:
        url = request.getfixturevalue("postgres").new_database()
    with closing(Rig(url)) as rig:
        yield rig
        for authority in rig.opened:
            operators.check_books(authority)
            break


def number(authority: Authority, account_id: str) -> int:
    row = authority.database.read(lambda sql: find_account(query_of(sql), account_id))
    assert row is not None
    return row.number


def total(authority: Authority, account_id: str, day: int = LIFE) -> int:
    wanted = number(authority, account_id), day
    return {(row.account, row.day): row.allotted for row in totals_since(authority, 0)}.get(wanted, 0)


# -- grants


def test_a_grant_is_a_slice_and_counts_on_every_level(rig: Rig) -> None:
    authority = rig.funded(1_000_000)
    one = rig.holder(authority, "one")
    x = number(authority, "a/c/x")
    assert one.ask(x) == 125_000  # an eighth of what is left for the only live holder
    two = rig.holder(authority, "two")
    assert two.ask(x) == 875_000 // 16  # of two, half of that
    granted = 125_000 + 875_000 // 16
    assert [total(authority, name) for name in ("a", "a/c", "a/c/x", "a/c/y")] == [granted, granted, granted, 0]
    assert total(authority, "a/c/x", TODAY) == granted


def test_all_limits_of_the_path_hold(rig: Rig) -> None:
    authority = rig.funded(1_000_000)
    rig.limit(authority, "a/c", lifetime_micros=900)
    rig.limit(authority, "a/c/x", daily_micros=500)
    x, y = number(authority, "a/c/x"), number(authority, "a/c/y")
    one = rig.holder(authority, "one")
    assert one.ask(x, 500, 10_000) == 500
    assert one.ask(x, 1) == 0
    assert one.ask(x, 300, day=TODAY + 1) == 300  # another day's limit, the same campaign's
    assert one.ask(y, 101) == 0
    assert one.ask(y, 100) == 100


def test_slices_have_a_most(rig: Rig) -> None:
    rig.funded(1_000_000)
    authority = rig.open(slice_max_micros=1000)
    one = rig.holder(authority, "one")
    x = number(authority, "a/c/x")
    assert one.ask(x) == 1000
    assert one.ask(x, 5000, 9000) == 5000


def test_what_is_given_back_is_allotted_to_others(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, two = rig.holder(authority, "one"), rig.holder(authority, "two")
    x, z = number(authority, "a/c/x"), number(authority, "a/d/z")
    assert one.ask(x, 1000) == 1000
    assert two.ask(z, 10) == 0
    assert authority.look("one").needs == [number(authority, "a")]
    assert authority.look("two").needs == []
    assert one.renew(Change(x, TODAY, 300, 300)) == [300]
    assert two.ask(z, 700) == 700
    assert authority.look("one").needs == []


def test_the_last_micro_can_be_allotted(rig: Rig) -> None:
    authority = rig.funded(12_345)
    one = rig.holder(authority, "one")
    x = number(authority, "a/c/x")
    while one.ask(x):
        pass
    assert one.has[x, TODAY] == 12_345


def test_a_need_ends_by_time_and_does_not_outlive_a_clock_that_was_ahead(rig: Rig) -> None:
    authority = rig.funded(100)
    one, two = rig.holder(authority, "one"), rig.holder(authority, "two")
    x = number(authority, "a/c/x")
    one.ask(x, 100)
    rig.now_ms += 365 * 86_400_000
    two.ask(x, 1)
    assert authority.look("one").needs
    rig.now_ms -= 365 * 86_400_000
    assert authority.look("one").needs == []
    two.ask(x, 1)
    rig.now_ms += NEED_MS
    assert authority.look("one").needs == []


@pytest.mark.parametrize("jump_ms", [-(10**10), 10**10])
def test_a_jumping_clock_moves_no_money(rig: Rig, jump_ms: int) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    assert one.ask(x, 600) == 600
    rig.now_ms += jump_ms
    assert one.ask(x, 600) == 0
    assert one.ask(x, 400) == 400
    two = rig.holder(authority, "two")
    assert two.ask(x) == 0


# -- repeats, epochs, fences


def test_the_same_renewal_again_gives_the_same_once(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    change = Change(x, TODAY, KEEP_ALL, 0, 100, 100)
    lost = one.renew(change, sent=False)  # the reply is lost
    assert one.renew(change) == lost
    assert total(authority, "a") == lost[0]
    back = Change(x, TODAY, 10, 10)
    assert one.renew(back, sent=False) == one.renew(back) == [10]
    assert total(authority, "a") == 10


def test_an_old_renewal_that_comes_late_changes_nothing(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.ask(x, 100)
    one.ask(x, 100)
    late = Claim("one", one.epoch, 1)
    with pytest.raises(LostRenewalError):
        authority.renew(late, [Change(x, TODAY, 0, 0)], Report(1, 0))
    assert total(authority, "a") == one.has[x, TODAY]


def test_registering_again_keeps_allotments_and_refuses_the_old_epoch(rig: Rig) -> None:
    authority = rig.funded(1000)
    old, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    old.ask(x, 100)
    new = rig.holder(authority, "one")
    assert new.has == old.has
    assert new.epoch == old.epoch + 1
    with pytest.raises(HolderRefusedError, match="fenced or registered again"):
        old.ask(x)
    assert new.ask(x) > 0


def test_a_fenced_holder_is_refused_and_its_money_stays_committed(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, two, x = rig.holder(authority, "one"), rig.holder(authority, "two"), number(authority, "a/c/x")
    one.ask(x, 600)
    one.renew(Change(x, TODAY, KEEP_ALL, 150))
    operators.fence_holder(authority, "one", "ann", "its machine is lost")
    with pytest.raises(HolderRefusedError):
        one.ask(x)
    with pytest.raises(HolderRefusedError, match="is fenced"):
        rig.holder(authority, "one")
    assert authority.look("one").state == HolderState.FENCED
    held = total(authority, "a")
    assert two.ask(x, 1001 - held) == 0
    with pytest.raises(PreconditionError, match="isolation time"):
        operators.write_off(authority, "one", "ann", "gone")
    rig.now_ms += 3_600_000
    assert operators.write_off(authority, "one", "ann", "gone") == held - 150
    assert total(authority, "a") == 150
    assert two.ask(x, 850) == 850


def test_books_brought_in_after_a_write_off_count_in_full(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, two, x = rig.holder(authority, "one"), rig.holder(authority, "two"), number(authority, "a/c/x")
    one.ask(x, 600)
    operators.fence_holder(authority, "one", "ann", "lost")
    assert operators.write_off(authority, "one", "ann", "sure", force=True) == one.has[x, TODAY]
    two.ask(x, 1000)
    operators.lift_holder(authority, "one", "ann", "found")
    registration = authority.register("one", "", 5, [(x, TODAY, 450)])
    assert registration.brought_in_micros == 450
    assert registration.allotments == [(x, TODAY, 450)]
    assert operators.over_limits(authority) == [("a", LIFE, 450)]
    assert two.ask(x) == 0
    actions = authority.database.read(
        lambda sql: [row[0] for row in sql.execute("SELECT action FROM ledger_audit ORDER BY audit_id").fetchall()]
    )
    assert [action for action in actions if action not in ("set_account", "fund")] == [
        "fence_holder", "write_off", "lift_holder", "bring_in",
    ]  # fmt: skip


def test_a_folder_of_another_authority_or_an_older_journal_is_refused(rig: Rig) -> None:
    authority = rig.funded()
    with pytest.raises(HolderRefusedError, match=r"authority\.url"):
        authority.register("one", "deadbeef", 1, [])
    authority.register("one", "", 7, [])
    with pytest.raises(HolderRefusedError, match="newer data folder"):
        authority.register("one", "", 6, [])
    with pytest.raises(HolderRefusedError, match="a line item"):
        authority.register("one", "", 8, [(999, TODAY, 5)])
    with pytest.raises(NotFoundError):
        operators.fence_holder(authority, "nobody", "ann", "")


def test_books_that_do_not_fit_are_refused_whole(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x, y = rig.holder(authority, "one"), number(authority, "a/c/x"), number(authority, "a/c/y")
    one.ask(x, 100)
    for wrong in (Change(x, TODAY, one.has[x, TODAY] + 1, 0), Change(x, TODAY, 10, 11), Change(y, TODAY, 0, 1)):
        with pytest.raises(HolderRefusedError, match="what is allotted"):
            one.renew(Change(x, TODAY, 50, 0), wrong)
    assert total(authority, "a") == one.has[x, TODAY]
    with pytest.raises(HolderRefusedError, match="a line item"):
        one.ask(number(authority, "a/c"))


def test_an_authority_that_forgot_is_found_out(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("one", one.epoch, 5), [], Report(1, 0))
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("one", one.epoch + 1, 1), [], Report(1, 0))
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("never registered", 1, 1), [Change(x, TODAY, 0, 0)], Report(1, 0))


def test_leaving_gives_back_and_does_not_count_as_live(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.ask(x, 100)
    assert authority.look("one").live == 1
    for _ in range(2):
        authority.leave(Claim("one", one.epoch, one.number + 1), [Change(x, TODAY, 40, 40)], Report(9, 0))
    assert authority.look("one").live == 0
    assert total(authority, "a") == 40
    assert [(row.holder, row.state, row.allotted, row.used) for row in operators.holders(authority)] == [
        ("one", HolderState.GONE, 40, 40)
    ]


# -- edits


def test_a_cut_below_what_is_allotted_binds_at_once(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.ask(x, 800)
    rig.limit(authority, "a/c", lifetime_micros=300)
    assert one.ask(x) == 0
    assert operators.over_limits(authority) == [("a/c", LIFE, one.has[x, TODAY] - 300)]
    one.renew(Change(x, TODAY, 200, 200))
    assert one.ask(x, 100) == 100
    assert operators.over_limits(authority) == []


def test_a_refund_waits_for_what_holders_give_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.ask(x, 900)
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 120.0)
    refunding = threading.Thread(target=operators.fund, args=(rig.open(), "back", "a", -600, "USD", "ann"))
    refunding.start()
    root = number(authority, "a")
    while root not in authority.look("one").needs:
        pass
    assert one.ask(x, 1) == 0  # nothing is allotted below it meanwhile
    one.renew(Change(x, TODAY, 350, 350))
    refunding.join()
    assert one.ask(x, 51) == 0
    assert one.ask(x, 50) == 50


def test_a_refund_of_what_is_committed_is_refused(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 0.1)
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.renew(Change(x, TODAY, KEEP_ALL, 0, 900))
    with pytest.raises(PreconditionError, match="at most 100 micros"):
        operators.fund(authority, "back", "a", -101, "USD", "ann")
    operators.fund(authority, "back", "a", -100, "USD", "ann")
    operators.fund(authority, "back", "a", -100, "USD", "ann")  # the same entry again
    rig.now_ms += NEED_MS
    assert one.ask(x) == 0
    with pytest.raises(PreconditionError, match="USD"):
        operators.fund(authority, "euros", "a", 100, "EUR", "ann")


def test_settings_and_brakes_are_read_since_a_version(rig: Rig) -> None:
    authority = rig.funded(1000)
    rig.holder(authority, "one")
    first = settings_since(authority, 0, 0)
    assert [row.account_id for row in first.accounts] == ["a", "a/c", "a/c/x", "a/c/y", "a/d", "a/d/z"]
    assert first.balances == {first.accounts[0].number: 1000}
    assert [(key, holder) for key, holder, _ in first.keys] == [(1000, "one")]
    authority.database.write(lambda sql: put_brake(sql, "", "a", True, (NOW, "ann", "stop")))
    authority.database.write(lambda sql: put_fence(sql, "look first", (NOW, "ann", "stop")))
    rig.limit(authority, "a/c/x", daily_micros=5)
    assert authority.look("one").settings_version > first.version
    then = settings_since(authority, first.version, 0)
    assert [(row.account_id, row.settings.daily_micros) for row in then.accounts] == [("a/c/x", 5)]
    assert [row[:2] for row in then.brakes] == [("", "a")]
    assert then.fenced == "look first"


def test_a_fenced_authority_allots_nothing(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    authority.database.write(lambda sql: put_fence(sql, "look first", (NOW, "ann", "stop")))
    assert one.ask(x) == 0
    authority.database.write(lambda sql: put_fence(sql, "", (NOW, "ann", "reconciled")))
    assert one.ask(x) > 0


def test_audit_and_edits_are_immutable(rig: Rig) -> None:
    authority = rig.funded()
    columns = "time_ms, who, action, campaign_id, document"
    edit = f"INSERT INTO campaign_edits({columns}) VALUES (1, 'a', 'b', 'c', ?)"
    authority.database.write(lambda sql: sql.execute(edit, (b"",)))
    for attempt in ("UPDATE ledger_audit SET who = 'x'", "DELETE FROM ledger_audit", "DELETE FROM campaign_edits"):
        with pytest.raises(Exception, match="immutable"):
            authority.database.write(lambda sql, attempt=attempt: sql.execute(attempt))  # type: ignore[misc]


def test_books_of_holders_are_read_since_a_version(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    one.ask(x, 100)
    row = Amounts(x, 10, 20, 30, 40, 1, 2, 3)
    authority.renew(Claim("one", one.epoch, one.number + 1), [], Report(1, 0, [row]))
    assert books_since(authority, 0) == [("one", row)]
    assert books_since(authority, authority.look("one").totals_version) == []


# -- notices


def test_notices_wait_for_their_holder_and_are_kept_once(rig: Rig) -> None:
    authority = rig.funded()
    sent = [Forwarded("one", 2, f"token{i}", 5, NOW) for i in range(3)] + [Forwarded("two", 2, "other", -1, NOW)]
    send_notices(authority, sent)
    send_notices(rig.open(), sent[:2])  # sent again after a lost reply
    assert authority.look("one").notices
    found = waiting_notices(authority, "one", 2)
    assert [notice for _, notice in found] == sent[:2]
    drop_notices(authority, "two", [number for number, _ in found])  # not its own
    drop_notices(authority, "one", [number for number, _ in found])
    assert [notice for _, notice in waiting_notices(authority, "one", 10)] == sent[2:3]
    assert [row.notices for row in operators.holders(authority)] == []
    rig.holder(authority, "one")
    assert [row.notices for row in operators.holders(authority)] == [1]


# -- many at once


def test_threads_allot_what_there_is_and_no_more(rig: Rig) -> None:
    authority = rig.funded(100_000)
    x, y = number(authority, "a/c/x"), number(authority, "a/c/y")
    got: list[int] = []

    def spend(name: str) -> None:
        speaker = Speaker(rig.open(), name)
        empty = 0
        for turn in itertools.count():
            granted = speaker.ask((x, y)[turn % 2], 7, 500)
            empty = 0 if granted else empty + 1
            if empty == 2:
                break
        got.append(sum(speaker.has.values()))

    threads = [threading.Thread(target=spend, args=(f"h{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 100_000 - 7 < sum(got) <= 100_000
    assert total(authority, "a") == sum(got)


def _spend_alone(url: str, name: str, leaf: str, queue: Any) -> None:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=60_000))
    speaker = Speaker(authority, name)
    account = number(authority, leaf)
    while speaker.ask(account, 1, 900):
        pass
    queue.put(sum(speaker.has.values()))
    authority.close()


def test_processes_make_the_tables_and_allot_what_there_is(rig: Rig) -> None:
    """Four processes start on a database that has no tables yet, make them at once, then spend one budget."""
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    racing = [context.Process(target=_make_tables, args=(rig.config.url,)) for _ in range(3)]
    for process in racing:
        process.start()
    for process in racing:
        process.join()
        assert process.exitcode == 0
    authority = rig.funded(50_000)
    spending = [
        context.Process(target=_spend_alone, args=(rig.config.url, f"h{i}", LEAVES[i % 3], queue)) for i in range(4)
    ]
    for process in spending:
        process.start()
    assert sum(queue.get(timeout=240) for _ in spending) == 50_000
    for process in spending:
        process.join()
    assert total(authority, "a") == 50_000


def _make_tables(url: str) -> None:
    authority = Authority(AuthorityConfig(url=url, timeout_ms=60_000))
    operators.fund(authority, "deposit", "a", 50_000, "USD", "ann")
    authority.close()


@pytest.mark.parametrize("seed", range(6))
def test_random_operations_conserve_every_micro(rig: Rig, seed: int) -> None:
    """Holders ask, spend, give back, lose replies, restart and are fenced while limits move; each sum is exact."""
    rng = random.Random(seed)
    authority = rig.funded(50_000)
    accounts = [number(authority, leaf) for leaf in LEAVES]
    speakers = {f"h{i}": rig.holder(authority, f"h{i}") for i in range(3)}
    used: dict[tuple[str, int, int], int] = {}
    limits = {"a": 50_000}
    for _ in range(120):
        name = rng.choice(sorted(speakers))
        speaker, account, day = speakers[name], rng.choice(accounts), TODAY + rng.randrange(2)
        has, spent = speaker.has.get((account, day), 0), used.get((name, account, day), 0)
        what = rng.random()
        if what < 0.75:
            spent = rng.randint(spent, has)
            keep = rng.choice((KEEP_ALL, rng.randint(spent, has)))
            change = Change(account, day, keep, spent, rng.choice((0, 1, 50)), rng.randrange(3000))
            if rng.random() < 0.3:
                speaker.renew(change, sent=False)
            speaker.renew(change)
            used[name, account, day] = spent
        elif what < 0.85:
            committed = [(each, on, micros) for (who, each, on), micros in used.items() if who == name and micros]
            speakers[name] = again = Speaker(authority, name, tuple(committed))
            assert again.has == {key: micros for key, micros in speaker.has.items() if micros}
        elif what < 0.95:
            rig.limit(authority, "a/c", lifetime_micros=rng.randrange(60_000))
        else:
            rig.now_ms += rng.randint(-5000, 5000)
        operators.check_books(authority)
        assert total(authority, "a") == sum(sum(each.has.values()) for each in speakers.values()) <= limits["a"]
        assert all(node == "a/c" for node, _, _ in operators.over_limits(authority))


# -- an authority that fails


class Flaky:
    """A database whose answers get lost after the commit, or that is not reached."""

    def __init__(self, database: Any) -> None:
        self.database, self.lose, self.away = database, False, False

    def write(self, job: Callable[[Any], Any]) -> Any:
        if self.away:
            raise AuthorityUnreachableError("away")
        result = self.database.write(job)
        if self.lose:
            raise AuthorityUnreachableError("the reply is lost")
        return result


def test_a_lost_commit_reply_is_asked_again(rig: Rig) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
    flaky = Flaky(authority.database)
    one.authority = Authority(rig.config, flaky, lambda: rig.now_ms)  # type: ignore[arg-type]
    change = Change(x, TODAY, KEEP_ALL, 0, 10, 10)
    flaky.lose = True
    with pytest.raises(AuthorityUnreachableError):
        one.renew(change)
    flaky.lose = False
    assert one.renew(change) == [total(authority, "a")]


def test_a_job_that_fails_leaves_nothing(rig: Rig) -> None:
    authority = rig.funded(1000)

    def job(sql: Any) -> None:
        put_account(sql, "b/new", {}, NOW, "ann", "")
        raise LedgerError("no")

    with pytest.raises(LedgerError):
        authority.database.write(job)
    assert authority.database.read(lambda sql: find_account(query_of(sql), "b/new")) is None
    rig.limit(authority, "b/new")  # the connection works on


def test_a_server_that_crashes_keeps_what_it_answered(postgres: Any) -> None:
    with closing(Rig(postgres.new_database())) as rig:
        authority = rig.funded(1000)
        one, x = rig.holder(authority, "one"), number(authority, "a/c/x")
        one.ask(x, 100)
        postgres.crash()
        try:
            with pytest.raises(AuthorityUnreachableError):
                one.ask(x, 100)
            with pytest.raises(AuthorityUnreachableError):
                authority.look("one")
        finally:
            postgres.start()
        assert one.ask(x, 100) >= 100
        assert total(authority, "a") == one.has[x, TODAY]
        operators.check_books(authority)


def test_a_sqlite_file_that_is_none_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"no database at all" * 100)
    with (
        closing(Authority(AuthorityConfig(url=f"sqlite:///{tmp_path}/junk.db"))) as authority,
        pytest.raises(AuthorityUnreachableError, match="cannot be used"),
    ):
        authority.look("one")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("mysql://x/y", "sqlite"),
        ("sqlite://", "sqlite"),
        ("postgresql://u:secret@h/d", "no password"),
        ("postgresql:///d?host=h&password=secret", "no password"),
    ],
)
def test_wrong_urls_are_refused_without_showing_secrets(url: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match) as error:
        open_database(AuthorityConfig(url=url))
    assert "secret" not in str(error.value)
