"""Ledgers that spend one budget together, over both authorities: sums that a lagging standby has lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from headrace.ledger.ledger import NoticeOutcome, NoticeType


@pytest.mark.parametrize("n_since", [0, 5])
def test_sums_that_an_authority_lost_are_forgotten(world: Any, n_since: int) -> None:
    """A standby takes over that lags behind: who read the lost sums reads all anew, however far versions are."""
    one, two = world.funded(1000, "one", "two")
    tables = ("authority_allotments", "authority_totals", "authority_books")
    before = two.authority.database.read(
        lambda sql: {table: sql.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    )
    version = str(two.authority.look("two").totals_version)
    token = one.win(600)
    world.step()
    assert one.tell(NoticeType.LOSS, token) == NoticeOutcome.ACCEPTED

    def lag(sql: Any) -> None:
        for table, rows in before.items():
            sql.execute(f"DELETE FROM {table}")
            if rows:
                sql.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)
        sql.execute("UPDATE ledger_meta SET value = ? WHERE key = 'totals_version'", (version,))
        sql.execute("UPDATE authority_holders SET number = 0 WHERE name = 'one'")

    two.authority.database.write(lag)
    one.step()
    spent = 0
    for _ in range(n_since):  # others go on meanwhile, past the versions that were lost
        spent += one.bid(1, "a/c/y")[0] is not None
        world.seconds += 1.1
        one.step()
    world.step()
    number = np.array([two.ledger.account_number("a/c/x")], np.int32)
    assert two.ledger.holder._shares.left(two.ledger.books, number, world.now_ms).tolist() == [1000 - spent]
    world.check()
