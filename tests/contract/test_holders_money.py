"""Ledgers that spend one budget together, over both authorities: shared to the last micro, in every process's life."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.authority import operators
from headrace.authority.schema import HolderState
from headrace.errors import PreconditionError
from headrace.ledger.budgets import put_fence
from headrace.ledger.ledger import NoticeOutcome, NoticeType, Reason

HOUR_MS = 3_600_000


def test_two_processes_spend_one_budget_to_the_last_micro(world: Any) -> None:
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


def test_nothing_is_reserved_before_registering(world: Any) -> None:
    (one,) = world.funded(1000, "one")
    one.win(10)
    world.kill("one")
    again = world.process("one", away=True)
    assert again.bid(1) == [None]
    assert again.reasons.tolist() == [Reason.AUTHORITY]
    again.gate.away = False
    again.step()
    again.win(10)
    world.check()


def test_a_killed_process_comes_back_to_its_allotment(world: Any) -> None:
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


def test_a_drained_process_leaves_only_what_is_reserved(world: Any) -> None:
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


def test_a_lost_machine_is_fenced_written_off_and_found_again(world: Any) -> None:
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


def test_a_restored_folder_gives_nothing_back_before_it_is_reconciled(world: Any) -> None:
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


def test_a_holders_own_folder_is_audited_without_the_authoritys_edits(world: Any, tmp_path: Any) -> None:
    from headrace.audit.auditor import audit
    from headrace.audit.export import export
    from headrace.audit.tables import compare_tables
    from headrace.audit.trail import ExportTrail, open_store

    (one,) = world.start("one")
    one.ledger.set_account("b/c/x")  # without any deposit
    world.step()
    with open_store(one.store.path) as trail:
        found = audit(trail)
        compare_tables(found, trail)
        export(trail, tmp_path / "out")
    assert found.differences == []
    exported = ExportTrail(tmp_path / "out")
    found = audit(exported)
    compare_tables(found, exported)
    assert found.differences == []


def test_a_bid_for_all_that_is_left_finds_it_beside_a_first_share(world: Any) -> None:
    (one,) = world.funded(100, "one")
    one.ledger.expect(np.array([one.ledger.account_number("a/c/x")], np.int32))
    world.step()
    assert sum(world.allotted(one).values()) > 0
    one.win(100)
    world.check()
