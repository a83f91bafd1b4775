"""From the tables and the reservation file back to a ledger, after a clean end, a kill or a power loss."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from headrace import _native
from headrace.errors import LedgerError, StoreError
from headrace.events.store import Store
from headrace.ledger.books import Books
from headrace.ledger.budgets import put_fence
from headrace.ledger.exchanges import Exchanges, read_numbers
from headrace.ledger.journal import (
    Query,
    add_records,
    get_meta,
    last_archived_lease,
    last_sequence,
    query_of,
    saved_records,
    set_meta,
)
from headrace.ledger.tokens import TokenKeys

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerConfig:
    """How the ledger leases, brakes and remembers."""

    # A lease is this part of what is left of the budget: one n-th.
    lease_share: Annotated[int, Meta(ge=1, le=1000)] = 8
    # The most in one lease, micros; what a power loss can strand of a line item.
    lease_max_micros: Annotated[int, Meta(ge=1, le=10**15)] = 20_000_000
    # Highest bid that is reserved for, micros per thousand impressions (CPM); 0: the bidder's own maximum.
    max_bid_cpm_micros: Annotated[int, Meta(ge=0, le=10**12)] = 0
    # An advertiser whose wins and bills cost more micros than this in one minute is braked; 0: no such breaker.
    max_micros_per_minute: Annotated[int, Meta(ge=0, le=10**15)] = 0
    # Milliseconds for which notices of a bid are taken; later ones are refused.
    billing_window_ms: Annotated[int, Meta(ge=1000, le=10**11)] = 30 * 24 * 3600 * 1000
    # Milliseconds after which EXPIRE mode releases a reservation, where no account says otherwise.
    expire_after_ms: Annotated[int, Meta(ge=1000, le=10**11)] = 3600 * 1000
    # Milliseconds between a failed write of the journal and the next attempt.
    retry_ms: Annotated[int, Meta(ge=1, le=600_000)] = 1000
    # Journal records after which the state is condensed.
    snapshot_records: Annotated[int, Meta(ge=1, le=10**9)] = 500_000


@dataclass(frozen=True, slots=True)
class Recovered:
    """A ledger rebuilt; ``epoch`` is its owner's number, ``exact`` whether single reservations were known.

    ``first_lease`` is above the number of every lease that left memory.
    """

    books: Books
    epoch: int
    sequence: int
    first_lease: int
    exact: bool


def load_view(query: Query, config: LedgerConfig, now_ms: int) -> Books:
    """Rebuild the state for reading; unsettled leases count as reserved."""
    books = _new_books(query, config, now_ms)
    _replay(query, books)
    books.native.restate_in_force()
    return books


def recover(connection: sqlite3.Connection, path: Path, config: LedgerConfig, now_ms: int) -> Recovered:
    """Rebuild the state as the new owner, close all leases and begin the next epoch, in the caller's transaction.

    path : the reservation file. It is trusted when this boot of the machine wrote it for the present epoch and for no
    more journal than there is; otherwise every open lease counts in full. A file that is ahead of the journal proves
    that the store was restored from a backup, so the ledger comes up fenced.
    """
    query = query_of(connection)
    image = _native.read_reservations(str(path))
    epoch, sequence = int(get_meta(query, "epoch", "0")), last_sequence(query)
    same = image.readable and image.ledger == ledger_id(connection)
    ahead = same and (image.epoch, image.sequence) > (epoch, sequence)
    trusted = same and not ahead and image.epoch == epoch and image.boot == _boot()
    books = load_view(query, config, now_ms)
    try:
        books.native.finish_replay(image, trusted, now_ms)
    except RuntimeError:  # the file holds more than its leases: whatever wrote it, it is not the truth
        trusted = False
        books = load_view(query, config, now_ms)
        books.native.finish_replay(image, trusted, now_ms)
    unknown = books.native.take_unknown_lease()
    if (ahead or unknown) and not books.fenced:
        put_fence(connection, "the store is older than the reservation file", (now_ms, "ledger", "found at recovery"))
        books.refresh(query)
    records = books.native.take_records()
    if records:
        sequence = add_records(connection, records, now_ms)
    set_meta(connection, "epoch", str(epoch + 1))
    return Recovered(books, epoch + 1, sequence, last_archived_lease(query) + 1, trusted)


def attach(recovered: Recovered, path: Path, ledger: int) -> None:
    """Write the reservation file of the new epoch. Raises StoreError when there is no room for it."""
    try:
        recovered.books.native.attach(str(path), recovered.epoch, ledger, _boot(), recovered.sequence)
    except RuntimeError as error:  # what the system refuses comes as this from native code
        raise StoreError(f"the reservation file cannot be made: {error}", hint="make room; send it again") from error


def open_keys(store: Store, path: Path, now_ms: int) -> TokenKeys:
    """The signing keys; a ledger that has granted leases and lost its keys is fenced until an operator has looked."""
    if not path.exists() and last_sequence(store.read):
        reason = f"{path.name} is gone: restore it, else no notice of an earlier bid can be verified"
        store.write(lambda connection: put_fence(connection, reason, (now_ms, "ledger", "found at opening")))
    return TokenKeys(path)


def ledger_id(connection: sqlite3.Connection) -> int:
    """The random number of this ledger; made at the first call."""
    found = get_meta(query_of(connection), "ledger_id")
    if not found:
        found = str(secrets.randbits(63))
        set_meta(connection, "ledger_id", found)
    return int(found)


def _new_books(query: Query, config: LedgerConfig, now_ms: int) -> Books:
    native = _native.Ledger(
        config.lease_share,
        config.lease_max_micros,
        config.max_bid_cpm_micros,
        config.max_micros_per_minute,
        config.expire_after_ms,
    )
    books = Books(native, Exchanges(read_numbers(query)))
    books.refresh(query)
    books.ensure_days(now_ms)
    return books


def _replay(query: Query, books: Books) -> None:
    try:
        blobs, archived = saved_records(query)
        for blob in archived:
            books.native.restore(blob)
        for blob in blobs:
            books.native.replay(blob)
    except (ValueError, IndexError, RuntimeError, OverflowError) as error:
        raise LedgerError(
            f"the ledger's journal cannot be read: {error}",
            hint="restore the store from a backup, then fence the ledger",
        ) from error


def _boot() -> int:
    """A hash of this boot of the machine: what memory held for the file system is lost with it."""
    try:
        text = _BOOT_ID.read_bytes()
    except OSError:
        return secrets.randbits(63)
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "little")
