"""What holders read of an authority: settings, campaigns, keys, sums and others' books, each since a version."""

from __future__ import annotations

from typing import NamedTuple

from headrace.authority.authority import Amounts, Authority
from headrace.authority.history import Stamp, knows, stamp_of
from headrace.authority.registration import SigningKey
from headrace.ledger.budgets import AccountRow, accounts_since, balance_of
from headrace.ledger.journal import get_meta, query_of
from headrace.ledger.sql import Sql


class Settings(NamedTuple):
    """Everything operators set that changed since a state, as rows of the tables.

    stamp : the present state.   whole : all there is, not what changed alone.
    balances : by advertiser's account number, of the changed ones.
    brakes, keys : all there are, keys in the order in which they were made.
    campaigns : campaign_id, sequence, document of those edited since a sequence, in its order.
    """

    stamp: Stamp
    whole: bool
    accounts: list[AccountRow]
    balances: dict[int, int]
    brakes: list[tuple[str, str, str, str, int]]
    fenced: str
    keys: list[SigningKey]
    campaigns: list[tuple[str, int, bytes]]


class Total(NamedTuple):
    """Sums below a node on a budget day, or of all days where ``day`` is LIFE, micros."""

    account: int
    day: int
    allotted: int
    used: int


def settings_since(authority: Authority, since: Stamp, campaign_sequence: int) -> Settings:
    """What changed after a state of the settings and a campaign's sequence, all of one moment.

    All there is where the authority does not know that state: it has lost commits.
    """

    def job(sql: Sql) -> Settings:
        query = query_of(sql)
        whole = since == Stamp() or not knows(query, since)
        accounts = list(accounts_since(query, 0 if whole else since.version))
        brakes = query("SELECT exchange, advertiser_id, reason, who, since_ms FROM ledger_brakes", ())
        keys = query("SELECT key_id, holder, secret, made_ms FROM authority_keys ORDER BY made_ms, key_id", ())
        campaigns = query(
            "SELECT campaign_id, sequence, document FROM campaigns WHERE sequence > ? ORDER BY sequence",
            (0 if whole else campaign_sequence,),
        )
        return Settings(
            stamp=stamp_of(query),
            whole=whole,
            accounts=accounts,
            balances={row.number: balance_of(query, row.number) for row in accounts if row.parent < 0},
            brakes=[(row[0], row[1], row[2], row[3], row[4]) for row in brakes],
            fenced=get_meta(query, "fenced"),
            keys=[SigningKey(*row) for row in keys],
            campaigns=[(row[0], row[1], bytes(row[2])) for row in campaigns],
        )

    return authority.database.read(job)


def totals_since(authority: Authority, version: int) -> list[Total]:
    """Sums that changed after a totals version."""
    query = "SELECT account, day, allotted, used FROM authority_totals WHERE version > ?"
    return authority.database.read(lambda sql: [Total(*row) for row in sql.execute(query, (version,)).fetchall()])


def books_since(authority: Authority, version: int) -> list[tuple[str, Amounts]]:
    """Holders' amounts that changed after a totals version."""
    query = f"SELECT holder, {', '.join(Amounts._fields)} FROM authority_books WHERE version > ?"
    return authority.database.read(
        lambda sql: [(row[0], Amounts(*row[1:])) for row in sql.execute(query, (version,)).fetchall()]
    )
