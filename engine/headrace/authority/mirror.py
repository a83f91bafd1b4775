"""A holder's own copy of what operators set at the authority: it bids on from it while the authority is not reached."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from headrace.authority.history import Stamp
from headrace.authority.views import Settings
from headrace.bidding.campaigns import begin_anew, put_campaign
from headrace.bidding.campaigns import create_tables as create_campaigns
from headrace.ledger.budgets import accounts_since, find_account, next_number, next_version, write_account
from headrace.ledger.journal import Query, get_meta, query_of, set_meta
from headrace.ledger.sql import Sql

OUTBOX = """CREATE TABLE IF NOT EXISTS authority_outbox(
    notice_id INTEGER PRIMARY KEY AUTOINCREMENT, holder TEXT NOT NULL, notice_type INTEGER NOT NULL,
    token TEXT NOT NULL, price_cpm_micros INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    minimum_cpm_micros INTEGER NOT NULL DEFAULT -1) STRICT"""
"""Notices of other holders' tokens on their way to the authority."""

MINIMUM = "ALTER TABLE authority_outbox ADD COLUMN minimum_cpm_micros INTEGER NOT NULL DEFAULT -1"
"""Of stores that were made before notices carried it."""
ACTION_OUTBOX = """CREATE TABLE IF NOT EXISTS authority_action_outbox(
    number INTEGER PRIMARY KEY AUTOINCREMENT, holder TEXT NOT NULL, came_ms INTEGER NOT NULL, action TEXT NOT NULL,
    token TEXT NOT NULL, time_ms INTEGER NOT NULL, n INTEGER NOT NULL, worth_micros INTEGER NOT NULL) STRICT"""
"""The same of reported purchases."""

Brake = tuple[str, str, str, str, int]
"""A row of ledger_brakes: exchange, advertiser, reason, who, since."""


def create_tables(sql: Sql) -> None:
    """Make what a holder's store has beside a ledger's."""
    create_campaigns(sql)
    sql.execute(OUTBOX)
    if not sql.execute(
        "SELECT 1 FROM pragma_table_info('authority_outbox') WHERE name = 'minimum_cpm_micros'"
    ).fetchone():
        sql.execute(MINIMUM)
    sql.execute(ACTION_OUTBOX)


def copied(query: Query) -> tuple[str, Stamp, int]:
    """Which authority this store is a copy of (empty: none), which state of its settings and which campaign's sequence
    it has."""
    sequence = query("SELECT coalesce(max(sequence), 0) FROM campaigns", ())[0][0]
    version, mark = json.loads(get_meta(query, "authority_stamp", '[0, ""]'))
    return get_meta(query, "authority_id"), Stamp(version, mark), int(sequence)


def belongs(query: Query) -> bool:
    """Whether the store is a copy of an authority's."""
    return bool(get_meta(query, "authority_id"))


def holds_money_of_its_own(query: Query) -> bool:
    """Whether the store has accounts that are no copy of an authority's."""
    return not belongs(query) and bool(query("SELECT 1 FROM ledger_accounts LIMIT 1", ()))


def key_holders(query: Query) -> dict[int, str]:
    """Whose signing key each key id is."""
    return {key: holder for key, (holder, _) in keys_known(query).items()}


def keys_known(query: Query) -> dict[int, tuple[str, int]]:
    """By key id: whose it is, and when it was made, ms."""
    stored = json.loads(get_meta(query, "authority_keys", "{}"))
    return {int(key): (str(holder), int(made_ms)) for key, (holder, made_ms) in stored.items()}


def stops_known(query: Query) -> tuple[list[Brake], str]:
    """The authority's brakes, and its fence's reason, as they were copied last."""
    known = _known_brakes(query)
    return [brake for brake in _brakes(query) if (brake[0], brake[1]) in known], get_meta(query, "authority_fenced")


def own_brakes(query: Query) -> list[Brake]:
    """Brakes engaged here of which the authority does not know yet."""
    known = _known_brakes(query)
    return [brake for brake in _brakes(query) if (brake[0], brake[1]) not in known]


def _brakes(query: Query) -> list[Brake]:
    rows = query("SELECT exchange, advertiser_id, reason, who, since_ms FROM ledger_brakes", ())
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def copy(sql: Sql, authority: str, settings: Settings, numbers: Mapping[int, int]) -> dict[int, int]:
    """Take over settings in the store's own transaction; returns what is added to ``numbers``.

    numbers : the store's account numbers by the authority's. An account keeps its number here, which journal and tokens
        carry, where an authority that lost commits has given it another one.
    """
    query, version = query_of(sql), next_version(sql)
    own: dict[int, int] = {-1: -1}
    for row in settings.accounts:
        old = find_account(query, row.account_id)
        number = own[row.number] = next_number(sql) if old is None else old.number
        parent = own[row.parent] if row.parent in own else numbers[row.parent]
        write_account(sql, replace(row, number=number, parent=parent, version=version))
    if settings.whole:
        _close_lost(sql, set(own.values()), version)
        _drop_campaigns(sql, settings)
    sql.executemany(
        "INSERT INTO ledger_funds VALUES (?, ?, ?, 0) ON CONFLICT(entry_id) DO UPDATE "
        "SET amount_micros = excluded.amount_micros",
        [(f"authority:{own[number]}", own[number], balance) for number, balance in settings.balances.items()],
    )
    wanted = {(brake[0], brake[1]) for brake in settings.brakes}
    sql.executemany(
        "DELETE FROM ledger_brakes WHERE exchange = ? AND advertiser_id = ?", sorted(_known_brakes(query) - wanted)
    )
    sql.executemany(
        "INSERT INTO ledger_brakes VALUES (?, ?, ?, ?, ?) ON CONFLICT(exchange, advertiser_id) "
        "DO UPDATE SET reason = excluded.reason, who = excluded.who, since_ms = excluded.since_ms",
        settings.brakes,
    )
    for campaign_id, sequence, document in settings.campaigns:
        put_campaign(sql, campaign_id, sequence, document)
    set_meta(sql, "authority_brakes", json.dumps(sorted(wanted)))
    set_meta(sql, "authority_fenced", settings.fenced)
    keys = {key.key_id: (key.holder, key.made_ms) for key in settings.keys}
    set_meta(sql, "authority_keys", json.dumps(keys | keys_known(query)))  # what was known once verifies for ever
    set_meta(sql, "authority_id", authority)
    set_meta(sql, "authority_stamp", json.dumps(settings.stamp))
    return own


def _close_lost(sql: Sql, there: set[int], version: int) -> None:
    """An account that the authority has lost keeps its books, but may spend no more until it is made again."""
    for row in list(accounts_since(query_of(sql), 0)):
        if row.number not in there and row.settings.lifetime_micros != 0:
            write_account(sql, replace(row, settings=replace(row.settings, lifetime_micros=0), version=version))


def _drop_campaigns(sql: Sql, settings: Settings) -> None:
    """Where campaigns are not those of the authority, begin anew with its own."""
    query = query_of(sql)
    wanted = {(name, sequence, document) for name, sequence, document in settings.campaigns}
    has = {
        (row[0], row[1], bytes(row[2])) for row in query("SELECT campaign_id, sequence, document FROM campaigns", ())
    }
    if not has <= wanted:
        sql.execute("DELETE FROM campaigns")
        begin_anew(sql)


def _known_brakes(query: Query) -> set[tuple[str, str]]:
    return {(exchange, advertiser) for exchange, advertiser in json.loads(get_meta(query, "authority_brakes", "[]"))}
