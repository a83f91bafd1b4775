"""Accounts, balances, brakes and the fence: what operators set, durably and with an audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import IntEnum
from typing import Any, TypedDict

from headrace.errors import InvalidRequestError, NotFoundError, PreconditionError
from headrace.ledger.days import time_zone
from headrace.ledger.journal import Query, get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

MAX_MICROS = 10**17
"""Largest single amount and balance: a hundred thousand million currency units; sums of many stay inside int64."""


MAX_EXPIRE_MS = 10**11
"""Longest time for which EXPIRE mode holds a reservation: three years."""


class LedgerMode(IntEnum):
    """As in campaigns.proto; INHERIT takes the parent's, and an advertiser's is HOLD."""

    INHERIT = 0
    HOLD = 1
    EXPIRE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSettings:
    """What an operator sets on one node.

    lifetime_micros, daily_micros : the most that may be spent; None: no limit of its own.
    currency : ISO 4217, one for the whole tree.
    time_zone : IANA name whose days the budget counts; None: the parent's (UTC at the top).
    expire_after_ms : how long an unsettled reservation holds its money in EXPIRE mode, at most 10**11; 0: the parent's.
    flight_start_ms, flight_end_ms : bounds of the flight, end exclusive; 0 end: open.
    """

    lifetime_micros: int | None = None
    daily_micros: int | None = None
    currency: str = "USD"
    time_zone: str | None = None
    mode: LedgerMode = LedgerMode.INHERIT
    expire_after_ms: int = 0
    flight_start_ms: int = 0
    flight_end_ms: int = 0


class SettingsPatch(TypedDict, total=False):
    """Settings to change; those left out stay as they are."""

    lifetime_micros: int | None
    daily_micros: int | None
    currency: str
    time_zone: str | None
    mode: LedgerMode
    expire_after_ms: int
    flight_start_ms: int
    flight_end_ms: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One account as stored."""

    number: int
    account_id: str
    parent: int
    settings: AccountSettings
    version: int


_COLUMNS = "account_number, account_id, parent, version, " + ", ".join(f.name for f in fields(AccountSettings))


def accounts_since(query: Query, version: int) -> Iterator[AccountRow]:
    """Accounts changed after a version, parents first."""
    for row in query(f"SELECT {_COLUMNS} FROM ledger_accounts WHERE version > ? ORDER BY account_number", (version,)):
        yield _row(row)


def find_account(query: Query, account_id: str) -> AccountRow | None:
    """The account of an id, or None."""
    rows = query(f"SELECT {_COLUMNS} FROM ledger_accounts WHERE account_id = ?", (account_id,))
    return _row(rows[0]) if rows else None


def _row(row: tuple[Any, ...]) -> AccountRow:
    number, account_id, parent, version, *values = row
    settings = AccountSettings(**dict(zip((f.name for f in fields(AccountSettings)), values, strict=True)))
    return AccountRow(number, account_id, parent, replace(settings, mode=LedgerMode(settings.mode)), version)


def balance_of(query: Query, number: int) -> int:
    """Deposits and credits less refunds of an advertiser, micros."""
    rows = query("SELECT coalesce(sum(amount_micros), 0) FROM ledger_funds WHERE account_number = ?", (number,))
    return int(rows[0][0])


def settings_version(query: Query) -> int:
    """Grows with every change of an account, a balance, a brake or the fence."""
    return int(get_meta(query, "settings_version", "0"))


def next_version(connection: Sql) -> int:
    """Take the next settings version."""
    version = settings_version(query_of(connection)) + 1
    set_meta(connection, "settings_version", str(version))
    return version


def audit(connection: Sql, now_ms: int, who: str, action: str, subject: str, change: tuple[str, str], why: str) -> None:
    """Add one immutable row: who did what to which subject, before and after, and why."""
    connection.execute(
        "INSERT INTO ledger_audit(time_ms, who, action, subject, before, after, why) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (now_ms, who, action, subject, *change, why),
    )


def put_account(connection: Sql, account_id: str, patch: SettingsPatch, now_ms: int, who: str, why: str) -> AccountRow:
    """Create or change an account, its absent parents included.

    Raises InvalidRequestError for a bad id or value, PreconditionError when the currency differs from the tree's.
    """
    names = check_account_id(account_id)
    query = query_of(connection)
    parent = -1
    for depth in range(1, len(names)):
        upper_id = "/".join(names[:depth])
        upper = find_account(query, upper_id)
        if upper is None:
            inherited: SettingsPatch = {"currency": patch["currency"]} if "currency" in patch else {}
            upper = _write(connection, upper_id, parent, None, AccountSettings(**inherited), (now_ms, who, why))
        parent = upper.number
    old = find_account(query, account_id)
    root = old if len(names) == 1 else find_account(query, names[0])
    settings = _patched(old, root, patch)
    if old is not None and old.settings == settings:
        return old
    return _write(connection, account_id, parent, old, settings, (now_ms, who, why))


def put_accounts(
    connection: Sql,
    patches: Mapping[str, SettingsPatch],
    by: tuple[int, str, str],
    also: Callable[[Sql], object] | None = None,
) -> None:
    """`put_account` for many, by account id, by (now_ms, who, why), and then ``also``."""
    for account_id, patch in patches.items():
        put_account(connection, account_id, patch, *by)
    if also is not None:
        also(connection)


def check_account_id(account_id: str) -> list[str]:
    """The names on an account's path. Raises InvalidRequestError unless it is one to three names of 1 to 64 bytes."""
    names = account_id.split("/")
    if len(names) > 3 or any(not 1 <= len(name.encode()) <= 64 for name in names):
        raise InvalidRequestError(
            "account_id", account_id, "advertiser, advertiser/campaign or advertiser/campaign/line, 1 to 64 bytes each"
        )
    return names


def check_entry(entry_id: str, advertiser_id: str, amount_micros: int) -> None:
    """Raise InvalidRequestError unless this can be an entry on an advertiser's balance."""
    if not 1 <= len(entry_id.encode()) <= 128:
        raise InvalidRequestError("entry_id", entry_id, "1 to 128 bytes")
    if amount_micros == 0 or abs(amount_micros) > MAX_MICROS:
        raise InvalidRequestError("amount_micros", amount_micros, f"not 0, at most {MAX_MICROS} either way")
    if len(check_account_id(advertiser_id)) != 1:
        raise InvalidRequestError(
            "advertiser_id", advertiser_id, "an advertiser's id", "only advertisers have balances"
        )


def _patched(old: AccountRow | None, root: AccountRow | None, patch: SettingsPatch) -> AccountSettings:
    base = old.settings if old is not None else AccountSettings()
    if root is not None:
        base = replace(base, currency=root.settings.currency)
    settings = replace(base, **patch)
    if root is not None and settings.currency != root.settings.currency:
        raise PreconditionError(
            "currency", settings.currency, root.settings.currency, "a budget has one currency, fixed once created"
        )
    _check(settings)
    return settings


def _check(settings: AccountSettings) -> None:
    if len(settings.currency) != 3 or not (settings.currency.isascii() and settings.currency.isupper()):
        raise InvalidRequestError("currency", settings.currency, "three capital letters of ISO 4217")
    for name in ("lifetime_micros", "daily_micros"):
        value = getattr(settings, name)
        if value is not None and not 0 <= value <= MAX_MICROS:
            raise InvalidRequestError(name, value, f"0 to {MAX_MICROS}", "leave it out for no limit of its own")
    if settings.flight_start_ms < 0 or settings.flight_end_ms < 0:
        raise InvalidRequestError("times", asdict(settings), "no negative milliseconds")
    if not 0 <= settings.expire_after_ms <= MAX_EXPIRE_MS:
        raise InvalidRequestError("expire_after_ms", settings.expire_after_ms, f"0 to {MAX_EXPIRE_MS}")
    time_zone(settings.time_zone or "")


def _write(
    connection: Sql,
    account_id: str,
    parent: int,
    old: AccountRow | None,
    settings: AccountSettings,
    by: tuple[int, str, str],
) -> AccountRow:
    now_ms, who, why = by
    version = next_version(connection)
    number = old.number if old is not None else next_number(connection)
    values = asdict(settings)
    write_account(connection, AccountRow(number, account_id, parent, settings, version))
    before = json.dumps(asdict(old.settings)) if old is not None else ""
    audit(connection, now_ms, who, "set_account", account_id, (before, json.dumps(values)), why)
    return AccountRow(number, account_id, parent, settings, version)


def write_account(connection: Sql, row: AccountRow) -> None:
    """Write an account's row as it is; no audit."""
    values = (row.number, row.account_id, row.parent, row.version, *asdict(row.settings).values())
    updates = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[1:])
    connection.execute(
        f"INSERT INTO ledger_accounts({_COLUMNS}) VALUES ({', '.join('?' * len(values))}) "
        f"ON CONFLICT(account_number) DO UPDATE SET {updates}",
        values,
    )


def next_number(connection: Sql) -> int:
    """The number of the next account that is made; they go up from 0."""
    return int(connection.execute("SELECT coalesce(max(account_number) + 1, 0) FROM ledger_accounts").fetchone()[0])


def put_fund(connection: Sql, entry_id: str, number: int, amount_micros: int, now_ms: int) -> bool:
    """Book an entry on an advertiser's balance; False when the entry is there already.

    Raises PreconditionError when the same entry id named another amount or advertiser, InvalidRequestError when the
    balance would pass what can be counted.
    """
    found = connection.execute(
        "SELECT account_number, amount_micros FROM ledger_funds WHERE entry_id = ?", (entry_id,)
    ).fetchone()
    if found is not None:
        if found != (number, amount_micros):
            raise PreconditionError("entry_id", entry_id, "an entry of the same amount and advertiser", "use a new id")
        return False
    balance = balance_of(query_of(connection), number)
    if balance + amount_micros > MAX_MICROS:
        raise InvalidRequestError(
            "amount_micros", amount_micros, f"at most {MAX_MICROS - balance} more, {MAX_MICROS} in all"
        )
    connection.execute("INSERT INTO ledger_funds VALUES (?, ?, ?, ?)", (entry_id, number, amount_micros, now_ms))
    connection.execute(
        "UPDATE ledger_accounts SET version = ? WHERE account_number = ?", (next_version(connection), number)
    )
    return True


def put_brake(connection: Sql, exchange: str, advertiser_id: str, engaged: bool, by: tuple[int, str, str]) -> None:
    """Engage or release a brake on an exchange, an advertiser, or (both empty) on everything.

    Raises InvalidRequestError when both are named, NotFoundError for an advertiser without an account.
    """
    now_ms, who, reason = by
    if exchange and advertiser_id:
        raise InvalidRequestError("brake", (exchange, advertiser_id), "an exchange or an advertiser, not both")
    if advertiser_id and find_account(query_of(connection), advertiser_id) is None:
        raise NotFoundError("advertiser_id", advertiser_id, "an advertiser that has an account")
    key = (exchange, advertiser_id)
    if engaged:
        connection.execute(
            "INSERT INTO ledger_brakes VALUES (?, ?, ?, ?, ?) ON CONFLICT(exchange, advertiser_id) "
            "DO UPDATE SET reason = excluded.reason, who = excluded.who, since_ms = excluded.since_ms",
            (*key, reason, who, now_ms),
        )
    else:
        connection.execute("DELETE FROM ledger_brakes WHERE exchange = ? AND advertiser_id = ?", key)
    next_version(connection)
    subject = f"exchange={exchange} advertiser={advertiser_id}"
    audit(connection, now_ms, who, "brake", subject, ("", "engaged" if engaged else "released"), reason)


def put_fence(connection: Sql, reason: str, by: tuple[int, str, str]) -> None:
    """Fence the ledger for a reason; an empty one takes the fence away."""
    now_ms, who, why = by
    before = get_meta(query_of(connection), "fenced")
    set_meta(connection, "fenced", reason)
    next_version(connection)
    audit(connection, now_ms, who, "fence" if reason else "unfence", "ledger", (before, reason), why)
