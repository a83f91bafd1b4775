"""The authority's tables, the same in SQLite and in PostgreSQL.

ledger_accounts, ledger_funds, ledger_brakes, ledger_audit, ledger_meta
    as in a process's own store (headrace.ledger.journal): what operators set, of which every holder keeps a copy under
    the same account numbers. ledger_meta also has ``authority_id`` (random, made once) and ``schema``.
campaigns, campaign_edits
    as in a process's own store (headrace.bidding.campaigns).
authority_holders
    one row a data folder that ever registered. ``holder``: its ledger's number in hexadecimal. ``epoch``: grows with
    every registration and every fence; calls of another epoch are refused. ``number``: of its last renewal in this
    epoch; the same number again changes nothing. ``state``: `HolderState`. ``seen_ms``: its last renewal, by the
    authority's clock. ``sequence``: the last sequence of its own journal that it told of. ``rate``: reservations asked
    for a minute. ``isolation_ms``: how long after ``seen_ms`` it may still bid.
authority_allotments
    what one holder may commit of one line item (``account``) on one budget day (``day``), micros; what it has spent of
    it stays in. ``used``: what it said is billed, won or reserved; the rest is unused. Where ``day`` is `LIFE`: all of
    its days that are over, settled and folded; ``folded_day`` in ledger_meta is the last of which there are any.
authority_totals
    sums of the allotments below a node (line item, campaign or advertiser) on one budget day, and of all its days where
    ``day`` is `LIFE`. ``version``: of the last change, grows with every renewal.
    Always: ``allotted`` <= the node's limit, daily limit and balance, unless one was cut below what was allotted.
authority_books
    one holder's amounts of one line item in all, as of its last renewals: what reports over all holders add up.
authority_needs
    nodes whose money is all allotted while ``holder`` waits for some; others give back what they do not use. Where
    ``blocks`` is 1 (a refund waits), nothing below the node is allotted meanwhile. A row counts until ``until_ms``.
authority_keys
    signing keys of all holders, by the key id that their tokens carry. Secret. Ids are drawn at random; ``made_ms``
    grows from one key of a holder to its next.
authority_marks
    a random name for every version of the settings, by which a version that is used twice is told apart.
authority_notices
    notices that came to another process than the holder whose token they carry, until that holder has settled them.
    ``time_ms``: when they came. ``minimum_cpm_micros``: the lowest bid that would have won; -1: not known.
authority_actions
    the same of reported purchases. ``came_ms``: when they came. ``action``: a digest of the id that the caller named it
    by. ``n``: how many; below zero: taken back.
"""

from __future__ import annotations

from enum import IntEnum

SCHEMA_VERSION = 2
"""2: days are folded, which programs of version 1 would add up twice."""

LIFE = -(1 << 31)
"""The day under which `authority_totals` sums all days."""

FIRST_KEY = 1000
"""Key ids below are of ledgers that never met an authority."""

LAST_KEY = (1 << 16) - 1
"""Tokens have 16 bits for a key id."""


class HolderState(IntEnum):
    """GONE: drained, may come back. FENCED: an operator's; may not register until the fence is lifted.

    UNHEARD: live when commits were lost, has not registered since; nothing is allotted to anybody meanwhile, for its
    isolation time at most.
    """

    LIVE = 0
    GONE = 1
    FENCED = 2
    UNHEARD = 3


TABLES = (
    "CREATE TABLE IF NOT EXISTS ledger_meta(key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS ledger_accounts(
        account_number INTEGER PRIMARY KEY, account_id TEXT NOT NULL UNIQUE, parent INTEGER NOT NULL,
        currency TEXT NOT NULL, time_zone TEXT, mode INTEGER NOT NULL, expire_after_ms INTEGER NOT NULL,
        lifetime_micros INTEGER, daily_micros INTEGER, flight_start_ms INTEGER NOT NULL,
        flight_end_ms INTEGER NOT NULL, version INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ledger_accounts_version ON ledger_accounts(version)",
    """CREATE TABLE IF NOT EXISTS ledger_funds(
        entry_id TEXT PRIMARY KEY, account_number INTEGER NOT NULL, amount_micros INTEGER NOT NULL,
        time_ms INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS ledger_funds_account ON ledger_funds(account_number, amount_micros)",
    """CREATE TABLE IF NOT EXISTS ledger_brakes(
        exchange TEXT NOT NULL, advertiser_id TEXT NOT NULL, reason TEXT NOT NULL, who TEXT NOT NULL,
        since_ms INTEGER NOT NULL, PRIMARY KEY(exchange, advertiser_id))""",
    """CREATE TABLE IF NOT EXISTS ledger_audit(
        audit_id SERIAL_KEY, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, why TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS campaigns(
        campaign_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, document BLOB NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS campaigns_by_sequence ON campaigns(sequence)",
    """CREATE TABLE IF NOT EXISTS campaign_edits(
        sequence SERIAL_KEY, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
        campaign_id TEXT NOT NULL, document BLOB NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS authority_holders(
        holder TEXT PRIMARY KEY, name TEXT NOT NULL, epoch INTEGER NOT NULL, number INTEGER NOT NULL,
        state INTEGER NOT NULL, seen_ms INTEGER NOT NULL, sequence INTEGER NOT NULL, rate INTEGER NOT NULL,
        isolation_ms INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS authority_allotments(
        holder TEXT NOT NULL, account INTEGER NOT NULL, day INTEGER NOT NULL, allotted INTEGER NOT NULL,
        used INTEGER NOT NULL, PRIMARY KEY(holder, account, day))""",
    """CREATE TABLE IF NOT EXISTS authority_totals(
        account INTEGER NOT NULL, day INTEGER NOT NULL, allotted INTEGER NOT NULL, used INTEGER NOT NULL,
        version INTEGER NOT NULL, PRIMARY KEY(account, day))""",
    "CREATE INDEX IF NOT EXISTS authority_totals_version ON authority_totals(version)",
    """CREATE TABLE IF NOT EXISTS authority_books(
        holder TEXT NOT NULL, account INTEGER NOT NULL, billed INTEGER NOT NULL, won INTEGER NOT NULL,
        reserved INTEGER NOT NULL, unused INTEGER NOT NULL, late INTEGER NOT NULL, disputed INTEGER NOT NULL,
        stranded INTEGER NOT NULL, version INTEGER NOT NULL, PRIMARY KEY(holder, account))""",
    "CREATE INDEX IF NOT EXISTS authority_books_version ON authority_books(version)",
    """CREATE TABLE IF NOT EXISTS authority_needs(
        node INTEGER NOT NULL, holder TEXT NOT NULL, blocks INTEGER NOT NULL, until_ms INTEGER NOT NULL,
        PRIMARY KEY(node, holder))""",
    """CREATE TABLE IF NOT EXISTS authority_keys(
        key_id INTEGER PRIMARY KEY, holder TEXT NOT NULL, secret TEXT NOT NULL, made_ms INTEGER NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS authority_marks(
        version INTEGER PRIMARY KEY, mark TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS authority_notices(
        notice_id SERIAL_KEY, holder TEXT NOT NULL, notice_type INTEGER NOT NULL, token TEXT NOT NULL,
        price_cpm_micros INTEGER NOT NULL, time_ms INTEGER NOT NULL, minimum_cpm_micros INTEGER NOT NULL DEFAULT -1,
        UNIQUE(token, notice_type, price_cpm_micros))""",
    "CREATE INDEX IF NOT EXISTS authority_notices_holder ON authority_notices(holder, notice_id)",
    """CREATE TABLE IF NOT EXISTS authority_actions(
        number SERIAL_KEY, holder TEXT NOT NULL, came_ms INTEGER NOT NULL, action TEXT NOT NULL, token TEXT NOT NULL,
        time_ms INTEGER NOT NULL, n INTEGER NOT NULL, worth_micros INTEGER NOT NULL, UNIQUE(holder, action))""",
    "CREATE INDEX IF NOT EXISTS authority_actions_holder ON authority_actions(holder, number)",
)
"""SERIAL_KEY stands for a primary key that the database counts up, never twice the same."""

ADDED = (("authority_notices", "minimum_cpm_micros", "INTEGER NOT NULL DEFAULT -1"),)
"""Columns that tables made by an earlier version do not have; one that does not name them writes the default."""

IMMUTABLE = ("ledger_audit", "campaign_edits")
"""Tables that are only added to, each by its own triggers."""

SERIAL_OF = {"ledger_audit": "audit_id", "campaign_edits": "sequence"}
