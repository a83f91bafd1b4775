"""A holder's registration: what its folder brings, and what an authority that lost commits learns from it again.

After a loss the authority may allot money that has been committed since elsewhere. So whoever proves one lets nothing
be allotted until all that were live have registered again: each with what it has committed, and nothing more.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import NamedTuple

from headrace.authority.grants import Grants
from headrace.authority.history import Stamp, knows, next_stamp
from headrace.authority.schema import FIRST_KEY, LAST_KEY, LIFE, HolderState
from headrace.authority.tree import Key, Tree
from headrace.errors import HolderRefusedError, LedgerError
from headrace.ledger.budgets import AccountRow, audit, find_account, put_account, put_brake, put_fence
from headrace.ledger.journal import get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

LIVE_MS = 10_000
"""A holder that renewed within this time counts as live."""

AWAITED = (
    "(SELECT count(*) FROM authority_holders WHERE state = ? "
    "AND {} BETWEEN seen_ms - isolation_ms AND seen_ms + isolation_ms)"
)
"""How many holders of a state are awaited at a moment, for its SQL."""

Committed = tuple[str, int, int]
"""Account id, budget day, micros."""


class SigningKey(NamedTuple):
    """A row of `authority_keys`. Of a holder's keys the one made last is signed with."""

    key_id: int
    holder: str
    secret: str
    made_ms: int


class Memory(NamedTuple):
    """What a data folder knows of its authority, from which that learns again what it may have lost.

    epoch, number : of the last call that was answered; 0: none was in this process.   stamp : of the settings it has.
    accounts : those it has committed money of and all above them, parents first.   keys : all it knows.
    brakes, fence : of the authority, as rows and its reason.
    fenced : whether the ledger waits for its reconciliation, and may have spent what it does not know of.
    """

    epoch: int = 0
    number: int = 0
    stamp: Stamp = Stamp()
    accounts: Sequence[AccountRow] = ()
    keys: Sequence[SigningKey] = ()
    brakes: Sequence[tuple[str, str, str, str, int]] = ()
    fence: str = ""
    fenced: bool = False


def enter(sql: Sql, holder: str, sequence: int, memory: Memory, now_ms: int, isolation_ms: int) -> tuple[int, bool]:
    """Look at who comes, and take in what was lost: its last epoch, and whether what it has not committed goes back.

    isolation_ms : how long one that the authority has forgotten may be bidding.

    Raises HolderRefusedError: fenced, an older journal, or money in another currency.
    """
    row = sql.execute(
        "SELECT epoch, number, state, sequence FROM authority_holders WHERE holder = ?", (holder,)
    ).fetchone()
    epoch, number, state, last = row or (0, 0, HolderState.GONE, 0)
    if state == HolderState.FENCED:
        raise HolderRefusedError(
            f"the holder {holder} is fenced", hint=f"headrace authority lift {holder}, once its books are right"
        )
    if sequence < last:
        raise HolderRefusedError(
            "the ledger's journal",
            sequence,
            f"sequence {last}, which it had",
            "restore the newer data folder, or reconcile, then headrace authority fence and lift",
        )
    lost = (memory.epoch, memory.number) > (epoch, number) or not knows(query_of(sql), memory.stamp)
    if lost:
        audit(sql, now_ms, holder, "found_loss", holder, ("", ""), "the authority has lost what it answered")
        _await_others(sql, holder)
        _stop_again(sql, holder, memory, now_ms)
    _learn_keys(sql, holder, memory.keys, now_ms, isolation_ms)
    _remake_accounts(sql, holder, memory.accounts, now_ms)
    return int(epoch), lost or state == HolderState.UNHEARD


def note_place(sql: Sql, place: str) -> None:
    """Look where the database is: whatever was brought there may lack commits, so all that were live are awaited.

    place : tells one run of a server, or one file, from another.
    """
    before = get_meta(query_of(sql), "place")
    if place != before:
        set_meta(sql, "place", place)
        if before:
            _await_others(sql, "")


def awaited(sql: Sql, now_ms: int) -> bool:
    """Whether nothing may be allotted, since holders that were live have not been heard."""
    return bool(
        sql.execute(f"SELECT {AWAITED.format('CAST(? AS BIGINT)')}", (HolderState.UNHEARD, now_ms)).fetchone()[0]
    )


def _await_others(sql: Sql, holder: str) -> None:
    """Let nothing be allotted before all that were live when the authority was last written have been heard."""
    sql.execute(
        "UPDATE authority_holders SET state = ? WHERE state = ? AND holder <> ? "
        "AND seen_ms > (SELECT max(seen_ms) FROM authority_holders) - ?",
        (HolderState.UNHEARD, HolderState.LIVE, holder, LIVE_MS),
    )


def _stop_again(sql: Sql, holder: str, memory: Memory, now_ms: int) -> None:
    """Engage the brakes and the fence again that were lost: whoever lifted one meanwhile does so once more."""
    query = query_of(sql)
    for exchange, advertiser, reason, who, since_ms in memory.brakes:
        known = query("SELECT 1 FROM ledger_brakes WHERE exchange = ? AND advertiser_id = ?", (exchange, advertiser))
        if not known and (not advertiser or find_account(query, advertiser) is not None):
            put_brake(sql, exchange, advertiser, True, (since_ms, who, reason))
    if memory.fence and not get_meta(query, "fenced"):
        put_fence(sql, memory.fence, (now_ms, holder, "the authority had lost it"))


def _learn_keys(sql: Sql, holder: str, keys: Iterable[SigningKey], now_ms: int, isolation_ms: int) -> None:
    """Take in keys that the authority has lost; whose holders it lost, too, may be bidding and are awaited."""
    known = {row[0] for row in sql.execute("SELECT key_id FROM authority_keys").fetchall()}
    missing = [key for key in keys if key.key_id not in known]
    sql.executemany("INSERT INTO authority_keys VALUES (?, ?, ?, ?)", missing)
    for name in sorted({key.holder for key in missing} - {holder}):
        sql.execute(
            "INSERT INTO authority_holders VALUES (?, '', 0, 0, ?, ?, 0, 0, ?) ON CONFLICT(holder) DO NOTHING",
            (name, HolderState.UNHEARD, now_ms, isolation_ms),
        )


def _remake_accounts(sql: Sql, holder: str, accounts: Iterable[AccountRow], now_ms: int) -> None:
    """Make accounts that were lost as the holder knows them."""
    query = query_of(sql)
    for row in accounts:
        found = find_account(query, row.account_id)
        if found is not None and found.settings.currency != row.settings.currency:
            raise HolderRefusedError(
                f"money of {row.account_id} in {row.settings.currency}",
                expected=f"{found.settings.currency}, what the authority has",
                hint="this advertiser was lost, and made again in another currency: that needs another advertiser id",
            )
        if found is None:
            put_account(sql, row.account_id, asdict(row.settings), now_ms, holder, "the authority had lost it")  # type: ignore[arg-type]


def make_key(sql: Sql, holder: str, now_ms: int, another: bool = False) -> None:
    """Give a holder a signing key where it has none, or another one.

    Its id is drawn from all that are free: the next one in order may be that of a key which was lost, and comes back.
    Raises LedgerError when all are taken.
    """
    rows = sql.execute("SELECT key_id, holder, made_ms FROM authority_keys").fetchall()
    own = [made_ms for _, name, made_ms in rows if name == holder]
    if own and not another:
        return
    free = sorted(set(range(FIRST_KEY, LAST_KEY + 1)) - {row[0] for row in rows})
    if not free:
        raise LedgerError("the authority has no key id left for another holder", hint="begin with another authority")
    made_ms = max([now_ms, *(before + 1 for before in own)])
    key = SigningKey(secrets.choice(free), holder, secrets.token_hex(32), made_ms)
    sql.execute("INSERT INTO authority_keys VALUES (?, ?, ?, ?)", key)
    next_stamp(sql)


def folded_until(sql: Sql) -> int:
    """The last budget day of which some was folded; see `headrace.authority.folding`."""
    return int(get_meta(query_of(sql), "folded_day", str(LIFE)))


def bring_in(sql: Sql, tree: Tree, holder: str, committed: Sequence[Committed], now_ms: int, *, only: bool) -> int:
    """Allot to a holder what it has committed beyond its allotments; returns these micros.

    only : what is allotted beyond what it has committed goes back.   Of days that were folded the sum counts.
    """
    query = query_of(sql)
    books: dict[Key, int] = {}
    rows = sql.execute("SELECT account, day FROM authority_allotments WHERE holder = ?", (holder,)).fetchall()
    own, folded_day = {(row[0], row[1]) for row in rows}, folded_until(sql)
    for account_id, day, micros in committed:
        row = find_account(query, account_id)
        if row is None or not tree.is_leaf(row.number):
            raise HolderRefusedError("account", account_id, "a line item of this authority")
        folded = day <= folded_day and (row.number, day) not in own
        key = row.number, LIFE if folded else day
        books[key] = books.get(key, 0) + micros
    grants = Grants(sql, tree, holder, [*books, *((row[0], row[1]) for row in rows)], now_ms).load()
    missing: dict[Key, int] = {}
    for key, allotted in {**dict.fromkeys(books, 0), **grants.allotted}.items():
        lacks = books.get(key, 0) - allotted
        if lacks > 0:
            missing[key] = lacks
        if lacks > 0 or only:
            of_used = lacks if key[1] == LIFE else min(books.get(key, 0) - grants.used(key), 0)
            grants.move(key, lacks, of_used)
    if missing:
        audit(sql, now_ms, holder, "bring_in", holder, ("", repr(missing)), "its books are above its allotments")
    if missing or only:
        version = int(get_meta(query, "totals_version", "0")) + 1
        set_meta(sql, "totals_version", str(version))
        grants.save(version)
    return sum(missing.values())
