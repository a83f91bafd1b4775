"""Campaigns as people edit them: durable, audited, followed by other processes, published as a Board."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from headrace.bidding.board import NO_LIMIT, Board, build_board, campaign_account, limit_of, line_account
from headrace.bidding.strategies.strategy import Strategy
from headrace.bidding.validation import MAX_MICROS, check_node_id, check_text, checked_campaign, checked_currency
from headrace.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    LedgerNotOwnerError,
    NotFoundError,
    PreconditionError,
)
from headrace.events.store import Store
from headrace.ledger.budgets import LedgerMode, SettingsPatch
from headrace.ledger.ledger import Ledger
from headrace.ledger.sql import Sql
from headrace.v1 import campaigns_pb2 as pb

SCHEMA = """
CREATE TABLE IF NOT EXISTS campaigns (
  campaign_id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, document BLOB NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS campaigns_by_sequence ON campaigns (sequence);
CREATE TABLE IF NOT EXISTS campaign_edits (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, who TEXT NOT NULL, action TEXT NOT NULL,
  campaign_id TEXT NOT NULL, document BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS campaigns_begun (mark TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS campaign_edits_stay BEFORE UPDATE ON campaign_edits
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
CREATE TRIGGER IF NOT EXISTS campaign_edits_remain BEFORE DELETE ON campaign_edits
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
CREATE TRIGGER IF NOT EXISTS campaign_edits_last BEFORE INSERT ON campaign_edits
  WHEN EXISTS (SELECT 1 FROM campaign_edits WHERE sequence = NEW.sequence)
  BEGIN SELECT RAISE(ABORT, 'the audit of edits is immutable'); END;
"""
"""Campaigns are serialized `headrace.v1.Campaign` messages; an edit keeps the whole message as it was left."""


class CampaignStore:
    """All campaigns of one data directory.

    store : where they live, and the ledger's accounts; edits are committed before a method returns.
    ledger : mirrors every advertiser, campaign and line item as an account, in the same commit. Its owner alone edits.
    max_bid_cpm : the server's highest bid, CPM micros.
    clock_ms : time of the audit rows.
    strategies : user-written ones that line items may name.

    Reading ``board`` is safe from any thread; it is replaced in whole.
    """

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        max_bid_cpm: int,
        clock_ms: Callable[[], int],
        strategies: Mapping[str, Strategy] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._max_bid_cpm = max_bid_cpm
        self._clock_ms = clock_ms
        self._strategies = strategies or {}
        self._lock = threading.RLock()
        self._listeners: list[Callable[[Board], None]] = []
        self._campaigns: dict[str, pb.Campaign] = {}
        self._edits: dict[str, int] = {}
        self._sequence, self._began = 0, list[tuple[str]]()
        self._mirrored = False
        store.write(create_tables)
        self.board = build_board(0, [], ledger, max_bid_cpm)
        self.refresh()

    def subscribe(self, listener: Callable[[Board], None]) -> None:
        """Call ``listener(board)`` now and after every change, on the thread that made it."""
        with self._lock:
            self._listeners.append(listener)
            listener(self.board)

    def refresh(self) -> bool:
        """Follow edits of other processes, and the ledger's change of hands; True when the board changed.

        To be called at least every 200 ms.
        """
        with self._lock:
            changed = self._follow()
            newly_owned = self._ledger.owned and not self._mirrored
            if newly_owned and not self._ledger.shared:
                accounts: dict[str, SettingsPatch] = {}
                for campaign in self._campaigns.values():
                    accounts |= _accounts(campaign, None)
                self._ledger.set_accounts(accounts, who="recovery", why="this process now owns the ledger")
            if changed or newly_owned:
                self._mirrored = self._ledger.owned
                self._publish()
            return changed or newly_owned

    def _follow(self) -> bool:
        """Read campaigns edited since the last time; whether there were any, or some are gone."""
        began = self._store.read("SELECT mark FROM campaigns_begun")
        anew = began != self._began
        if anew:
            self._campaigns, self._edits, self._sequence, self._began = {}, {}, 0, began
        rows = self._store.read(
            "SELECT sequence, document FROM campaigns WHERE sequence > ? ORDER BY sequence", (self._sequence,)
        )
        for sequence, document in rows:
            campaign = pb.Campaign.FromString(document)
            self._campaigns[campaign.campaign_id] = campaign
            self._edits[campaign.campaign_id] = self._sequence = sequence
        return anew or bool(rows)

    def create(self, campaign: pb.Campaign, who: str) -> pb.Campaign:
        """Store a new campaign; returns it with defaults filled in.

        Raises InvalidRequestError, NotFoundError for an advertiser without an account, AlreadyExistsError, and
        LedgerNotOwnerError when another process owns the ledger.
        """
        campaign = checked_campaign(campaign)
        self._check_strategies(campaign)
        with self._editing():
            if campaign.campaign_id in self._campaigns:
                raise AlreadyExistsError(
                    f"campaign {campaign.campaign_id} exists already", hint="update it, or choose another campaign_id"
                )
            self._check_advertiser(campaign)
            return self._save(campaign, None, who, "create")

    def update(self, campaign: pb.Campaign, who: str) -> pb.Campaign:
        """Replace a campaign; raises as `create` does, and NotFoundError, InvalidRequestError for a fixed field."""
        campaign = checked_campaign(campaign)
        self._check_strategies(campaign)
        with self._editing():
            before = self.get(campaign.campaign_id)
            for what in ("advertiser_id", "currency"):
                if getattr(before, what) != getattr(campaign, what):
                    raise InvalidRequestError(
                        what,
                        getattr(campaign, what),
                        f"{getattr(before, what)!r}, fixed once created",
                        "create another campaign",
                    )
            return self._save(campaign, before, who, "update")

    def pause(self, campaign_id: str, *, resume: bool, who: str) -> pb.Campaign:
        """Stop a campaign or let it run again; raises NotFoundError, LedgerNotOwnerError."""
        check_node_id("campaign_id", campaign_id)
        with self._editing():
            before = self.get(campaign_id)
            campaign = pb.Campaign()
            campaign.CopyFrom(before)
            campaign.paused = not resume
            return self._save(campaign, before, who, "resume" if resume else "pause")

    def fund(self, entry_id: str, advertiser_id: str, amount_micros: int, currency: str, who: str) -> None:
        """Move money on an advertiser's balance; the same entry_id again changes nothing.

        Raises InvalidRequestError, LedgerNotOwnerError, and the ledger's PreconditionError for too high a refund.
        """
        check_text("entry_id", entry_id, 128)
        check_node_id("advertiser_id", advertiser_id)
        if amount_micros == 0 or abs(amount_micros) > MAX_MICROS:
            raise InvalidRequestError("amount_micros", amount_micros, f"-{MAX_MICROS} to {MAX_MICROS} but not 0")
        currency = checked_currency(currency)
        with self._editing():
            self._ledger.fund(entry_id, advertiser_id, amount_micros, currency, who=who)
            self._publish()

    def get(self, campaign_id: str) -> pb.Campaign:
        """The stored message, not to be changed; raises NotFoundError."""
        campaign = self._campaigns.get(campaign_id)
        if campaign is None:
            raise NotFoundError(f"no campaign {campaign_id!r}", hint="list the campaigns for the ids there are")
        return campaign

    def find(self, advertiser_id: str, campaign_ids: Sequence[str]) -> list[pb.Campaign]:
        """Campaigns by id, of one advertiser or of all, of these ids or any; raises NotFoundError for an unknown id."""
        with self._lock:
            names = campaign_ids or sorted(self._campaigns)
            found = [self.get(name) for name in names]
        return [campaign for campaign in found if advertiser_id in ("", campaign.advertiser_id)]

    @contextlib.contextmanager
    def _editing(self) -> Iterator[None]:
        with self._lock:
            if not self._ledger.owned:
                raise LedgerNotOwnerError(
                    "another process owns the ledger", hint="send the edit to it, or try again when it has drained"
                )
            self._ledger.catch_up()
            self.refresh()
            yield

    def _check_advertiser(self, campaign: pb.Campaign) -> None:
        currency = self._ledger.currency(campaign.advertiser_id)
        if currency is None:
            raise NotFoundError(f"no advertiser {campaign.advertiser_id!r}", hint="fund it first")
        if currency != campaign.currency:
            raise InvalidRequestError(
                "currency", campaign.currency, f"{currency}, the advertiser's", "one budget has one currency"
            )

    def _check_strategies(self, campaign: pb.Campaign) -> None:
        for line in campaign.line_items:
            if not line.strategy:
                continue
            if line.strategy not in self._strategies:
                known = ", ".join(sorted(self._strategies)) or "nothing: bidding.strategies names none"
                raise InvalidRequestError(f"line item {line.line_item_id}: strategy", line.strategy, known)
            self._strategies[line.strategy].row(line.strategy_parameters)

    def _save(self, campaign: pb.Campaign, before: pb.Campaign | None, who: str, action: str) -> pb.Campaign:
        row = (self._clock_ms(), who, action, campaign.campaign_id, campaign.SerializeToString(deterministic=True))
        known = self._edits.get(campaign.campaign_id, 0)
        self._ledger.set_accounts(
            _accounts(campaign, before), who=who, why=action, also=lambda sql: _insert(sql, row, known)
        )
        self._follow()
        self._publish()
        return self._campaigns[campaign.campaign_id]

    def _publish(self) -> None:
        self.board = build_board(self._sequence, self._campaigns.values(), self._ledger, self._max_bid_cpm)
        self._ledger.expect(self.board.nodes.accounts[: self.board.n_lines][~self.board.paused])
        for listener in self._listeners:
            listener(self.board)


def _accounts(campaign: pb.Campaign, before: pb.Campaign | None) -> dict[str, SettingsPatch]:
    """Settings of the campaign's account and its line items', whose mode, zone and flight are the campaign's."""
    shared: SettingsPatch = {
        "currency": campaign.currency,
        "time_zone": campaign.time_zone,
        "mode": LedgerMode(campaign.ledger_mode),
        "flight_start_ms": campaign.flight_start_ms,
        "flight_end_ms": campaign.flight_end_ms,
    }
    accounts: dict[str, SettingsPatch] = {campaign_account(campaign): {**shared, **_limits(campaign.limits)}}
    for line in before.line_items if before is not None else []:
        # a line item that went away keeps its books, but may spend no more
        accounts[line_account(campaign, line.line_item_id)] = {"lifetime_micros": 0}
    for line in campaign.line_items:
        accounts[line_account(campaign, line.line_item_id)] = _limits(line.limits)
    return accounts


def _limits(limits: pb.Limits) -> SettingsPatch:
    lifetime, daily = limit_of(limits, "lifetime_micros"), limit_of(limits, "daily_micros")
    return {
        "lifetime_micros": None if lifetime == NO_LIMIT else lifetime,
        "daily_micros": None if daily == NO_LIMIT else daily,
    }


def create_tables(connection: Sql) -> None:
    """Make the campaigns' tables where they are not there yet."""
    for statement in SCHEMA.split(";\n"):
        connection.execute(statement)


def begin_anew(sql: Sql) -> None:
    """Let everybody who follows the campaigns read all of them: some are gone, or as they were before."""
    sql.execute("DELETE FROM campaigns_begun")
    sql.execute("INSERT INTO campaigns_begun VALUES (?)", (secrets.token_hex(8),))


def _insert(sql: Sql, row: tuple[int, str, str, str, bytes], known: int) -> None:
    """Write an edit of a campaign whose last edit has the sequence ``known``; raises PreconditionError for another."""
    found = sql.execute("SELECT sequence FROM campaigns WHERE campaign_id = ?", (row[3],)).fetchone()
    if (found[0] if found else 0) != known:
        raise PreconditionError("campaign_id", row[3], "a campaign that nobody else edits just now", "look at it again")
    sequence = sql.execute(
        "INSERT INTO campaign_edits (time_ms, who, action, campaign_id, document) VALUES (?, ?, ?, ?, ?) "
        "RETURNING sequence",
        row,
    ).fetchone()[0]
    put_campaign(sql, row[3], sequence, row[4])


def put_campaign(sql: Sql, campaign_id: str, sequence: int, document: bytes) -> None:
    """Write a campaign as it was left by the edit of a sequence."""
    sql.execute(
        "INSERT INTO campaigns (campaign_id, sequence, document) VALUES (?, ?, ?) "
        "ON CONFLICT (campaign_id) DO UPDATE SET sequence = excluded.sequence, document = excluded.document",
        (campaign_id, sequence, document),
    )
