"""What operators do at an authority: look at holders, fence one, write it off, refund, check the books."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from headrace.authority.authority import Authority
from headrace.authority.grants import NEED_MS, Grants, put_needs
from headrace.authority.history import mark_settings
from headrace.authority.registration import awaited
from headrace.authority.schema import LIFE, HolderState
from headrace.authority.tree import Tree
from headrace.errors import LedgerError, NotFoundError, PreconditionError
from headrace.ledger.budgets import AccountRow, audit, balance_of, put_account, put_fund
from headrace.ledger.journal import get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

REFUND_PATIENCE_S = 3.0
REFUND_STEP_S = 0.05


class HolderRow(NamedTuple):
    """One holder: see `authority_holders`; allotted and used are micros over all its line items and days."""

    holder: str
    name: str
    epoch: int
    state: HolderState
    seen_ms: int
    isolation_ms: int
    allotted: int
    used: int
    notices: int


def holders(authority: Authority) -> list[HolderRow]:
    """Every holder that ever registered, by name."""

    def job(sql: Sql) -> list[HolderRow]:
        rows = sql.execute(
            "SELECT h.holder, h.name, h.epoch, h.state, h.seen_ms, h.isolation_ms, "
            "(SELECT coalesce(sum(a.allotted), 0) FROM authority_allotments a WHERE a.holder = h.holder), "
            "(SELECT coalesce(sum(a.used), 0) FROM authority_allotments a WHERE a.holder = h.holder), "
            "(SELECT count(*) FROM authority_notices n WHERE n.holder = h.holder) "
            "FROM authority_holders h ORDER BY h.name, h.holder"
        ).fetchall()
        return [
            HolderRow(row[0], row[1], row[2], HolderState(row[3]), *(int(value) for value in row[4:])) for row in rows
        ]

    return authority.database.read(job)


def fence_holder(authority: Authority, holder: str, who: str, why: str) -> None:
    """Refuse a holder's calls until the fence is lifted; what is allotted to it stays committed. Audited.

    It stops bidding at its next call, or after its isolation time where it does not reach the authority.
    Raises NotFoundError.
    """

    def job(sql: Sql) -> None:
        _, epoch, _ = _find(sql, holder)
        sql.execute(
            "UPDATE authority_holders SET state = ?, epoch = ? WHERE holder = ?",
            (HolderState.FENCED, epoch + 1, holder),
        )
        sql.execute("DELETE FROM authority_needs WHERE holder = ?", (holder,))
        audit(sql, authority.now_ms(sql), who, "fence_holder", holder, ("", "fenced"), why)

    authority.database.write(job)


def lift_holder(authority: Authority, holder: str, who: str, why: str) -> None:
    """Let a fenced holder register again, with older books than it had, too. Audited; raises NotFoundError."""

    def job(sql: Sql) -> None:
        state, _, _ = _find(sql, holder)
        if state == HolderState.FENCED:
            sql.execute(
                "UPDATE authority_holders SET state = ?, sequence = 0 WHERE holder = ?", (HolderState.GONE, holder)
            )
            audit(sql, authority.now_ms(sql), who, "lift_holder", holder, ("fenced", ""), why)

    authority.database.write(job)


def write_off(authority: Authority, holder: str, who: str, why: str, *, force: bool = False) -> int:
    """Take back what a fenced holder had not used when it was heard of last; returns the micros. Audited.

    Before the holder's isolation time is over it may still be bidding, so nothing is taken back.
    force : the operator knows that it does not run any more.

    If it did use more, that is money spent beyond what it keeps: its books show it when they are brought in.
    Raises NotFoundError, PreconditionError for a holder that is not fenced or whose time is not over.
    """

    def job(sql: Sql) -> int:
        state, _, until_ms = _find(sql, holder)
        if state != HolderState.FENCED:
            raise PreconditionError("holder", holder, "a fenced one", f"headrace authority fence {holder} first")
        now_ms = authority.now_ms(sql)
        if now_ms < until_ms and not force:
            raise PreconditionError(
                "holder",
                holder,
                f"one not heard of for its isolation time, {(until_ms - now_ms) // 1000} s more",
                "wait, or --force where it is known not to run any more",
            )
        rows = sql.execute(
            "SELECT account, day, allotted, used FROM authority_allotments WHERE holder = ? AND allotted > used",
            (holder,),
        ).fetchall()
        tree = Tree()
        tree.refresh(query_of(sql))
        grants = Grants(sql, tree, holder, [(row[0], row[1]) for row in rows], now_ms).load()
        for account, day, allotted, used in rows:
            grants.move((account, day), used - allotted, 0)
        grants.save(_next_total(sql))
        freed = sum(int(row[2] - row[3]) for row in rows)
        audit(sql, now_ms, who, "write_off", holder, ("", f"{freed} micros not used, as of its last report"), why)
        return freed

    return authority.database.write(job)


def fund(
    authority: Authority, entry_id: str, advertiser: str, amount_micros: int, currency: str, who: str
) -> AccountRow:
    """Book a deposit or credit (> 0) or a refund (< 0); idempotent by entry id.

    A refund makes holders give back what they do not use, for some seconds at most.
    Raises PreconditionError for another currency, a reused entry id, or a refund of what is committed.
    """
    until = time.monotonic() + REFUND_PATIENCE_S
    while True:
        account, lacks = authority.database.write(
            lambda sql: _book(
                sql, entry_id, advertiser, amount_micros, currency, (authority.now_ms(sql), who, f"entry {entry_id}")
            )
        )
        if lacks <= 0:
            return account
        if time.monotonic() >= until:
            expected = f"a refund of at most {max(-amount_micros - lacks, 0)} micros"
            raise PreconditionError("amount_micros", amount_micros, expected, "the rest is committed")
        time.sleep(REFUND_STEP_S)


def _book(
    sql: Sql, entry_id: str, advertiser: str, amount: int, currency: str, by: tuple[int, str, str]
) -> tuple[AccountRow, int]:
    """The account, and how much of a refund is committed still (0: it is booked)."""
    query, (now_ms, who, why) = query_of(sql), by
    row = put_account(sql, advertiser, {"currency": currency}, now_ms, who, why)
    before = balance_of(query, row.number)
    refund = f"refund {entry_id}"
    known = query("SELECT 1 FROM ledger_funds WHERE entry_id = ?", (entry_id,))
    if amount < 0 and not known:
        sums = query("SELECT allotted FROM authority_totals WHERE account = ? AND day = ?", (row.number, LIFE))
        lacks = (sums[0][0] if sums else 0) - (before + amount)
        if awaited(sql, now_ms):  # they may have committed what is to go back
            lacks = max(lacks, -amount)
        if lacks > 0:
            put_needs(sql, refund, [row.number], now_ms + NEED_MS, blocks=True)
            return row, lacks
        sql.execute("DELETE FROM authority_needs WHERE holder = ?", (refund,))
    if put_fund(sql, entry_id, row.number, amount, now_ms):
        audit(sql, now_ms, who, "fund", advertiser, (str(before), str(before + amount)), why)
    mark_settings(sql)
    return row, 0


def edit(authority: Authority, job: Callable[[Sql], object]) -> None:
    """Run edits of `headrace.ledger.budgets` on the authority's tables, all of them or none."""

    def marked(sql: Sql) -> None:
        job(sql)
        mark_settings(sql)

    authority.database.write(marked)


def check_books(authority: Authority) -> None:
    """Raise LedgerError unless the sums are those of the allotments, and what is used lies within them."""

    def job(sql: Sql) -> str:
        tree = Tree()
        tree.refresh(query_of(sql))
        sums: dict[tuple[int, int], list[int]] = {}
        for account, day, allotted, used in sql.execute(
            "SELECT account, day, allotted, used FROM authority_allotments"
        ).fetchall():
            if not 0 <= used <= allotted:
                return f"account {account}, day {day}: {used} used of {allotted}"
            for node in tree.path(account):
                for key in {(node, day), (node, LIFE)}:
                    of = sums.setdefault(key, [0, 0])
                    of[0] += allotted
                    of[1] += used
        for account, day, allotted, used in sql.execute(
            "SELECT account, day, allotted, used FROM authority_totals"
        ).fetchall():
            if sums.pop((account, day), [0, 0]) != [allotted, used]:
                return f"node {account}, day {day}: the sum {allotted} ({used} used) is not that of its allotments"
        return f"sums are missing: {sorted(sums)[:5]}" if any(any(pair) for pair in sums.values()) else ""

    wrong = authority.database.read(job)
    if wrong:
        raise LedgerError(f"the authority's books do not balance: {wrong}")


def over_limits(authority: Authority) -> list[tuple[str, int, int]]:
    """Nodes below which more is allotted than their limits say: account id, day (LIFE: all), micros above.

    None, unless a limit was cut below what was allotted, or books were brought in.
    """

    def job(sql: Sql) -> list[tuple[str, int, int]]:
        tree = Tree()
        tree.refresh(query_of(sql))
        names = dict(sql.execute("SELECT account_number, account_id FROM ledger_accounts").fetchall())
        found = []
        for account, day, allotted in sql.execute("SELECT account, day, allotted FROM authority_totals").fetchall():
            limits = tree.nodes[account]
            limit = limits.lifetime if day == LIFE else limits.daily
            if limit is not None and allotted > limit:
                found.append((names[account], day, allotted - limit))
        return sorted(found)

    return authority.database.read(job)


def _find(sql: Sql, holder: str) -> tuple[HolderState, int, int]:
    """State, epoch, and until when it may bid without being heard of."""
    row = sql.execute(
        "SELECT state, epoch, seen_ms + isolation_ms FROM authority_holders WHERE holder = ?", (holder,)
    ).fetchone()
    if row is None:
        raise NotFoundError("holder", holder, "one that registered")
    return HolderState(row[0]), row[1], row[2]


def _next_total(sql: Sql) -> int:
    value = int(get_meta(query_of(sql), "totals_version", "0")) + 1
    set_meta(sql, "totals_version", str(value))
    return value
