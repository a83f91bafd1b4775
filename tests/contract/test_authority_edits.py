"""One suite over both authorities: settings, refunds, brakes, notices, and what is read of them."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.authority import Amounts, Claim, Report
from headrace.authority.grants import KEEP_ALL, NEED_MS, Change
from headrace.authority.history import Stamp
from headrace.authority.notices import Forwarded, drop_notices, send_notices, waiting_notices
from headrace.authority.schema import LIFE
from headrace.authority.views import books_since, settings_since
from headrace.errors import (
    PreconditionError,
)
from headrace.ledger.budgets import put_account, put_brake, put_fence

NOW = 1_800_000_000_000
TODAY = 20_833


def test_a_cut_below_what_is_allotted_binds_at_once(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.ask(x, 800)
    rig.limit(authority, "a/c", lifetime_micros=300)
    assert one.ask(x) == 0
    assert operators.over_limits(authority) == [("a/c", LIFE, one.has[x, TODAY] - 300)]
    one.renew(Change(x, TODAY, 200, 200))
    assert one.ask(x, 100) == 100
    assert operators.over_limits(authority) == []


def test_a_refund_waits_for_what_holders_give_back(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.ask(x, 900)
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 120.0)
    refunding = threading.Thread(target=operators.fund, args=(rig.open(), "back", "a", -600, "USD", "ann"))
    refunding.start()
    root = rig.number("a")
    while root not in authority.look("one").needs:
        pass
    assert one.ask(x, 1) == 0  # nothing is allotted below it meanwhile
    one.renew(Change(x, TODAY, 350, 350))
    refunding.join()
    assert one.ask(x, 51) == 0
    assert one.ask(x, 50) == 50


def test_a_refund_of_what_is_committed_is_refused(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "REFUND_PATIENCE_S", 0.1)
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.renew(Change(x, TODAY, KEEP_ALL, 0, 900))
    with pytest.raises(PreconditionError, match="at most 100 micros"):
        operators.fund(authority, "back", "a", -101, "USD", "ann")
    operators.fund(authority, "back", "a", -100, "USD", "ann")
    operators.fund(authority, "back", "a", -100, "USD", "ann")  # the same entry again
    rig.now_ms += NEED_MS
    assert one.ask(x) == 0
    with pytest.raises(PreconditionError, match="USD"):
        operators.fund(authority, "euros", "a", 100, "EUR", "ann")


def test_settings_and_brakes_are_read_since_a_version(rig: Any) -> None:
    authority = rig.funded(1000)
    rig.holder(authority, "one")
    operators.edit(authority, lambda sql: put_account(sql, "a/c/x", {"daily_micros": 4}, NOW, "ann", "test"))
    first = settings_since(authority, Stamp(), 0)
    assert first.whole
    assert [row.account_id for row in first.accounts] == ["a", "a/c", "a/c/x", "a/c/y", "a/d", "a/d/z"]
    assert first.balances == {first.accounts[0].number: 1000}
    assert [key.holder for key in first.keys] == ["one"]
    operators.edit(authority, lambda sql: put_brake(sql, "", "a", True, (NOW, "ann", "stop")))
    operators.edit(authority, lambda sql: put_fence(sql, "look first", (NOW, "ann", "stop")))
    rig.limit(authority, "a/c/x", daily_micros=5)
    assert authority.look("one").settings.version > first.stamp.version
    then = settings_since(authority, first.stamp, 0)
    assert not then.whole
    assert [(row.account_id, row.settings.daily_micros) for row in then.accounts] == [("a/c/x", 5)]
    assert [row[:2] for row in then.brakes] == [("", "a")]
    assert then.fenced == "look first"


def test_a_fenced_authority_allots_nothing(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    authority.database.write(lambda sql: put_fence(sql, "look first", (NOW, "ann", "stop")))
    assert one.ask(x) == 0
    authority.database.write(lambda sql: put_fence(sql, "", (NOW, "ann", "reconciled")))
    assert one.ask(x) > 0


def test_audit_and_edits_are_immutable(rig: Any) -> None:
    authority = rig.funded()
    columns = "time_ms, who, action, campaign_id, document"
    edit = f"INSERT INTO campaign_edits({columns}) VALUES (1, 'a', 'b', 'c', ?)"
    authority.database.write(lambda sql: sql.execute(edit, (b"",)))
    for attempt in ("UPDATE ledger_audit SET who = 'x'", "DELETE FROM ledger_audit", "DELETE FROM campaign_edits"):
        with pytest.raises(Exception, match="immutable"):
            authority.database.write(lambda sql, attempt=attempt: sql.execute(attempt))  # type: ignore[misc]


def test_books_of_holders_are_read_since_a_version(rig: Any) -> None:
    authority = rig.funded(1000)
    one, x = rig.holder(authority, "one"), rig.number("a/c/x")
    one.ask(x, 100)
    row = Amounts(x, 10, 20, 30, 40, 1, 2, 3)
    authority.renew(Claim("one", one.epoch, one.number + 1), [], Report(1, 0, [row]))
    assert books_since(authority, 0) == [("one", row)]
    assert books_since(authority, authority.look("one").totals_version) == []


def test_notices_wait_for_their_holder_and_are_kept_once(rig: Any) -> None:
    authority = rig.funded()
    sent = [Forwarded("one", 2, f"token{i}", 5, 4, NOW) for i in range(3)] + [Forwarded("two", 2, "other", -1, -1, NOW)]
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
