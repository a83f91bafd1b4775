"""A holder's own copy of what operators set at the authority: it bids on from it while the authority is not reached."""

from __future__ import annotations

import json
from dataclasses import replace

from headrace.authority.views import Settings
from headrace.bidding.campaigns import create_tables as create_campaigns
from headrace.bidding.campaigns import put_campaign
from headrace.ledger.budgets import next_version, write_account
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


def copied(query: Query) -> tuple[str, int, int]:
    """Which authority this store is a copy of (empty: none), up to which settings version and campaign's sequence."""
    sequence = query("SELECT coalesce(max(sequence), 0) FROM campaigns", ())[0][0]
    return get_meta(query, "authority_id"), int(get_meta(query, "authority_version", "0")), int(sequence)


def belongs(query: Query) -> bool:
    """Whether the store is a copy of an authority's."""
    return bool(get_meta(query, "authority_id"))


def holds_money_of_its_own(query: Query) -> bool:
    """Whether the store has accounts that are no copy of an authority's."""
    return not belongs(query) and bool(query("SELECT 1 FROM ledger_accounts LIMIT 1", ()))


def key_holders(query: Query) -> dict[int, str]:
    """Whose signing key each key id is."""
    return {int(key): str(holder) for key, holder in json.loads(get_meta(query, "authority_keys", "{}")).items()}


def own_brakes(query: Query) -> list[Brake]:
    """Brakes engaged here of which the authority does not know yet."""
    known = _known_brakes(query)
    rows = query("SELECT exchange, advertiser_id, reason, who, since_ms FROM ledger_brakes", ())
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows if (row[0], row[1]) not in known]


def copy(sql: Sql, authority: str, settings: Settings) -> None:
    """Take over settings in the store's own transaction."""
    query, version = query_of(sql), next_version(sql)
    for row in settings.accounts:
        write_account(sql, replace(row, version=version))
    sql.executemany(
        "INSERT INTO ledger_funds VALUES (?, ?, ?, 0) ON CONFLICT(entry_id) DO UPDATE "
        "SET amount_micros = excluded.amount_micros",
        [(f"authority:{number}", number, balance) for number, balance in settings.balances.items()],
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
    set_meta(sql, "authority_keys", json.dumps({key: holder for key, holder, _ in settings.keys}))
    set_meta(sql, "authority_id", authority)
    set_meta(sql, "authority_version", str(settings.version))


def _known_brakes(query: Query) -> set[tuple[str, str]]:
    return {(exchange, advertiser) for exchange, advertiser in json.loads(get_meta(query, "authority_brakes", "[]"))}
