"""One suite over both authorities: renewals that are repeated, lost or late, epochs and fences."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.authority import Authority, Claim, Report
from headrace.authority.database import open_database
from headrace.authority.grants import KEEP_ALL, Change
from headrace.authority.schema import LIFE, HolderState
from headrace.authority.settings import AuthorityConfig
from headrace.errors import (
    AuthorityUnreachableError,
    ConfigError,
    HolderRefusedError,
    LedgerError,
    LostRenewalError,
    NotFoundError,
    PreconditionError,
)
from headrace.ledger.budgets import find_account, put_account
from headrace.ledger.journal import query_of

NOW = 1_800_000_000_000
TODAY = 20_833


def test_the_same_renewal_again_gives_the_same_once(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    change = Change(x, TODAY, KEEP_ALL, 0, 100, 100)
    lost = one.renew(change, sent=False)  # the reply is lost
    assert one.renew(change) == lost
    assert rig.total("a") == lost[0]
    back = Change(x, TODAY, 10, 10)
    assert one.renew(back, sent=False) == one.renew(back) == [10]
    assert rig.total("a") == 10


def test_an_old_renewal_that_comes_late_changes_nothing(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.ask(x, 100)
    one.ask(x, 100)
    late = Claim("one", one.epoch, 1)
    with pytest.raises(LostRenewalError):
        authority.renew(late, [Change(x, TODAY, 0, 0)], Report(1, 0))
    assert rig.total("a") == one.has[x, TODAY]


def test_registering_again_keeps_allotments_and_refuses_the_old_epoch(rig: Any) -> None:
    authority = rig.funded(1000)
    old, x = rig.holder(authority, "one"), rig.number("a/c/x")
    old.ask(x, 100)
    new = rig.holder(authority, "one")
    assert new.has == old.has
    assert new.epoch == old.epoch + 1
    with pytest.raises(HolderRefusedError, match="fenced or registered again"):
        old.ask(x)
    assert new.ask(x) > 0


def test_a_fenced_holder_is_refused_and_its_money_stays_committed(rig: Any) -> None:
    authority = rig.funded(1000)
    one, two, x = rig.holder(authority, "one"), rig.holder(authority, "two"), rig.number("a/c/x")
    one.ask(x, 600)
    one.renew(Change(x, TODAY, KEEP_ALL, 150))
    operators.fence_holder(authority, "one", "ann", "its machine is lost")
    with pytest.raises(HolderRefusedError):
        one.ask(x)
    with pytest.raises(HolderRefusedError, match="is fenced"):
        rig.holder(authority, "one")
    assert authority.look("one").state == HolderState.FENCED
    held = rig.total("a")
    assert two.ask(x, 1001 - held) == 0
    with pytest.raises(PreconditionError, match="isolation time"):
        operators.write_off(authority, "one", "ann", "gone")
    rig.now_ms += 3_600_000
    assert operators.write_off(authority, "one", "ann", "gone") == held - 150
    assert rig.total("a") == 150
    assert two.ask(x, 850) == 850


def test_a_lost_holders_time_is_by_one_clock(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts' clocks differ by hours; where the database has one of its own, it alone counts."""
    rig.funded(1000)
    with closing(Authority(rig.config)) as authority:
        epoch = authority.register("one", "", 1, []).epoch
        authority.renew(Claim("one", epoch, 1), [Change(rig.number("a/c/x"), TODAY, KEEP_ALL, 0, 1)], Report(1, 0))
        operators.fence_holder(authority, "one", "ann", "no answer")
        host_ms = time.time_ns() // 1_000_000
        monkeypatch.setattr("headrace.authority.authority.time.time_ns", lambda: (host_ms + 7_200_000) * 1_000_000)
        if authority.database.clock:
            with pytest.raises(PreconditionError, match=r"3[0-9]{3} s more; wait, or --force"):
                operators.write_off(authority, "one", "ann", "no answer")
        else:  # one host, one clock
            assert operators.write_off(authority, "one", "ann", "no answer") == 125


def test_books_brought_in_after_a_write_off_count_in_full(rig: Any) -> None:
    authority = rig.funded(1000)
    one, two, x = rig.holder(authority, "one"), rig.holder(authority, "two"), rig.number("a/c/x")
    one.ask(x, 600)
    operators.fence_holder(authority, "one", "ann", "lost")
    assert operators.write_off(authority, "one", "ann", "sure", force=True) == one.has[x, TODAY]
    two.ask(x, 1000)
    operators.lift_holder(authority, "one", "ann", "found")
    registration = authority.register("one", "", 5, [("a/c/x", TODAY, 450)])
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


def test_a_folder_of_another_authority_or_an_older_journal_is_refused(rig: Any) -> None:
    authority = rig.funded()
    with pytest.raises(HolderRefusedError, match=r"authority\.url"):
        authority.register("one", "deadbeef", 1, [])
    authority.register("one", "", 7, [])
    with pytest.raises(HolderRefusedError, match="newer data folder"):
        authority.register("one", "", 6, [])
    with pytest.raises(HolderRefusedError, match="a line item"):
        authority.register("one", "", 8, [("a/c", TODAY, 5)])
    with pytest.raises(NotFoundError):
        operators.fence_holder(authority, "nobody", "ann", "")


def test_books_that_do_not_fit_are_refused_whole(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x, y = rig.holder(authority, "one"), rig.number("a/c/x"), rig.number("a/c/y")
    one.ask(x, 100)
    for wrong in (Change(x, TODAY, one.has[x, TODAY] + 1, 0), Change(x, TODAY, 10, 11), Change(y, TODAY, 0, 1)):
        with pytest.raises(HolderRefusedError, match="what is allotted"):
            one.renew(Change(x, TODAY, 50, 0), wrong)
    assert rig.total("a") == one.has[x, TODAY]
    with pytest.raises(HolderRefusedError, match="a line item"):
        one.ask(rig.number("a/c"))


def test_an_authority_that_forgot_is_found_out(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("one", one.epoch, 5), [], Report(1, 0))
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("one", one.epoch + 1, 1), [], Report(1, 0))
    with pytest.raises(LostRenewalError):
        authority.renew(Claim("never registered", 1, 1), [Change(x, TODAY, 0, 0)], Report(1, 0))


def test_leaving_gives_back_and_does_not_count_as_live(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.ask(x, 100)
    assert authority.look("one").live == 1
    for _ in range(2):
        authority.leave(Claim("one", one.epoch, one.number + 1), [Change(x, TODAY, 40, 40)], Report(9, 0))
    assert authority.look("one").live == 0
    assert rig.total("a") == 40
    assert [(row.holder, row.state, row.allotted, row.used) for row in operators.holders(authority)] == [
        ("one", HolderState.GONE, 40, 40)
    ]


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


def test_a_lost_commit_reply_is_asked_again(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    flaky = Flaky(authority.database)
    one.authority = Authority(rig.config, flaky, lambda: rig.now_ms)  # type: ignore[arg-type]
    change = Change(x, TODAY, KEEP_ALL, 0, 10, 10)
    flaky.lose = True
    with pytest.raises(AuthorityUnreachableError):
        one.renew(change)
    flaky.lose = False
    assert one.renew(change) == [rig.total("a")]


def test_a_job_that_fails_leaves_nothing(rig: Any) -> None:
    authority = rig.funded(1000)

    def job(sql: Any) -> None:
        put_account(sql, "b/new", {}, NOW, "ann", "")
        raise LedgerError("no")

    with pytest.raises(LedgerError):
        authority.database.write(job)
    assert authority.database.read(lambda sql: find_account(query_of(sql), "b/new")) is None
    rig.limit(authority, "b/new")  # the connection works on


def test_a_server_that_crashes_keeps_what_it_answered(postgres: Any, rigs: ModuleType) -> None:
    with closing(rigs.Rig(postgres.new_database())) as rig:
        authority = rig.funded(1000)
        one, x = rig.holder(authority, "one"), rig.number("a/c/x")
        one.ask(x, 100)
        postgres.crash()
        try:
            with pytest.raises(AuthorityUnreachableError):
                one.ask(x, 100)
            with pytest.raises(AuthorityUnreachableError):
                authority.look("one")
        finally:
            postgres.start()
        with pytest.raises(LostRenewalError):  # another run of the server may lack commits
            one.ask(x, 100)
        again = rig.holder(authority, "one", (("a/c/x", TODAY, one.has[x, TODAY]),))
        assert again.has == one.has
        assert again.ask(x, 100) >= 100
        assert rig.total("a") == again.has[x, TODAY]
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
