"""Ledgers that spend one budget together, over both authorities: days that are over and settled become one row."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.authority import operators
from headrace.authority.folding import AT_ONCE, FOLD_DAYS, FOLD_S
from headrace.authority.schema import LIFE
from headrace.ledger.ledger import NoticeType

NOW = 1_800_000_000_000
DAY_MS = 86_400_000
TODAY = NOW // DAY_MS


def rows(world: Any, name: str) -> dict[int, tuple[int, int]]:
    """By day, what is allotted to a process for the first line item, and used."""
    holder = world.processes[name].ledger.holder.name
    query = "SELECT day, allotted, used FROM authority_allotments WHERE holder = ? AND allotted > 0 ORDER BY day"
    found = world.processes[name].gate.database.read(lambda sql: sql.execute(query, (holder,)).fetchall())
    return {row[0]: (row[1], row[2]) for row in found}


def days_of_totals(world: Any) -> list[int]:
    query = "SELECT DISTINCT day FROM authority_totals ORDER BY day"
    return [row[0] for row in world.processes["one"].gate.database.read(lambda sql: sql.execute(query).fetchall())]


def pass_days(world: Any, n: int) -> None:
    world.step(n * DAY_MS / 1000)
    world.step(FOLD_S)


@pytest.fixture
def folded(world: Any) -> str:
    """Two processes spent ten a day on five days; the first holds one reservation of 30 of the third day: its token."""
    one, two = world.funded(1000, "one", "two", daily_micros=100)
    one.gate.database.write(lambda sql: sql.execute("UPDATE ledger_meta SET value = '1' WHERE key = 'schema'"))
    held = ""
    for day in range(5):
        for process in (one, two):
            process.tell(NoticeType.BILLING, process.win(10), 10)
        if day == 2:
            held = one.win(30)
        world.step(DAY_MS / 1000)
    pass_days(world, FOLD_DAYS + 1)
    return held


def test_settled_days_become_one_row_and_the_books_balance(world: Any, folded: str) -> None:
    assert rows(world, "one") == {LIFE: (40, 40), TODAY + 2: (40, 40)}
    assert rows(world, "two") == {LIFE: (50, 50)}
    assert days_of_totals(world) == [LIFE, TODAY + 2]
    query = "SELECT value FROM ledger_meta WHERE key = 'schema'"  # programs that cannot read this are refused
    assert world.processes["one"].gate.database.read(lambda sql: sql.execute(query).fetchone()[0]) == "2"
    world.check()
    one, _ = world.processes.values()
    assert one.tell(NoticeType.LOSS, folded) == 1
    pass_days(world, 1)
    assert rows(world, "one") == {LIFE: (50, 50)}
    assert days_of_totals(world) == [LIFE]
    spent = {state.account_id: state.committed_micros for state in one.ledger.accounts()}
    assert spent["a"] == 100
    world.check()
    assert [row.used for row in operators.holders(one.authority)] == [50, 50]


def test_a_process_with_folded_days_comes_back_to_what_it_had(world: Any, folded: str) -> None:
    for name in ("one", "two"):
        world.kill(name)
    one, two = world.start("one", "two")
    query = "SELECT count(*) FROM ledger_audit WHERE action = 'bring_in'"
    assert one.gate.database.read(lambda sql: sql.execute(query).fetchone()[0]) == 0
    assert rows(world, "one") == {LIFE: (40, 40), TODAY + 2: (40, 40)}
    assert two.win(80)
    world.check()


def test_folded_days_that_an_authority_lost_are_brought_in(world: Any, folded: str) -> None:
    world.kill("two")
    one = world.processes["one"]

    def lose(sql: Any) -> None:
        sql.execute("DELETE FROM authority_allotments WHERE day = ? AND allotted = 50", (LIFE,))
        sql.execute("UPDATE authority_totals SET allotted = allotted - 50, used = used - 50 WHERE day = ?", (LIFE,))

    one.gate.database.write(lose)
    world.start("two")
    assert rows(world, "two") == {LIFE: (50, 50)}
    world.check()


def test_nothing_more_is_allotted_to_a_day_that_was_folded(world: Any, folded: str) -> None:
    """A clock that goes back by more than a week finds the day closed, not its money to spend once more."""
    one, two = world.processes.values()
    world.now_ms = NOW + DAY_MS
    for _ in range(3):
        assert one.bid(1) == two.bid(1) == [None]
        world.step()
    assert one.ledger.holder.refused == two.ledger.holder.refused == ""
    world.now_ms = NOW + 20 * DAY_MS
    one.win(100)
    world.check()


def test_many_days_are_folded_in_turns(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert AT_ONCE > 3
    monkeypatch.setattr("headrace.authority.folding.AT_ONCE", 3)
    (one,) = world.funded(1000, "one", daily_micros=100)
    for _ in range(8):
        one.tell(NoticeType.BILLING, one.win(10), 10)
        world.step(DAY_MS / 1000)
    world.step(FOLD_S + FOLD_DAYS * DAY_MS / 1000)
    world.step()
    world.step(DAY_MS / 1000)
    world.step()
    assert rows(world, "one") == {LIFE: (80, 80)}
    world.check()


@pytest.mark.parametrize("ahead", ["one", "authority"])
def test_a_clock_that_is_far_ahead_alone_folds_nothing(world: Any, ahead: str) -> None:
    (one,) = world.funded(1000, "one", daily_micros=100)
    one.tell(NoticeType.BILLING, one.win(10), 10)
    if ahead == "one":
        one.ledger._clock_ms = lambda: world.now_ms + 400 * DAY_MS
    else:
        one.authority._clock_ms = lambda: world.now_ms + 400 * DAY_MS
    world.seconds += FOLD_S
    world.step()
    world.step()
    assert list(rows(world, "one")) == [TODAY]
    one.ledger._clock_ms = lambda: world.now_ms
    one.win(10)
