"""Where an auditor reads: a store, beside its server or without one, or what was exported of it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from headrace.errors import DataError, reason_of
from headrace.events.migrations import check_version, version_of

FORMAT = 1
"""Of an export."""

LATE_BILLS = "ledger_reconciliation WHERE notice_type = 2 AND outcome = 3"


class Row(NamedTuple):
    """One row of the journal; ``digest`` chains it to the rows before, empty where there was none yet."""

    sequence: int
    time_ms: int
    records: bytes
    digest: bytes


class Snapshot(NamedTuple):
    """What the ledger said of itself after a row."""

    sequence: int
    records: bytes


@dataclass(frozen=True, slots=True)
class Account:
    """One node of the money tree, with the settings that bind it now; None: no limit."""

    number: int
    account_id: str
    parent: int
    currency: str
    mode: int
    lifetime_micros: int | None
    daily_micros: int | None


class Trail(Protocol):
    """All that a recount needs."""

    def accounts(self) -> list[Account]: ...
    def snapshots(self) -> list[Snapshot]: ...
    def rows(self, after: int) -> Iterator[Row]: ...
    def first_row(self) -> int: ...
    def last_row(self) -> int: ...
    def shared(self) -> bool: ...
    def digest_before(self, sequence: int) -> bytes: ...
    def late_bills(self) -> dict[int, int]: ...
    def table(self, name: str) -> Iterator[dict[str, Any]]: ...


class StoreTrail:
    """The ledger's tables in a database, as of one moment; read only.

    Raises DataError when there is no ledger in it.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT 1 FROM ledger_journal LIMIT 1")
        except sqlite3.Error as error:
            raise DataError(f"no ledger can be read here: {error}", hint="name the data folder of a server") from error

    def query(self, text: str, parameters: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of the same moment."""
        return self._connection.execute(text, parameters).fetchall()

    def iterate(self, text: str) -> Iterator[tuple[Any, ...]]:
        """Rows of the same moment, one after another."""
        yield from self._connection.execute(text)

    def accounts(self) -> list[Account]:
        rows = self.query(
            "SELECT account_number, account_id, parent, currency, mode, lifetime_micros, daily_micros "
            "FROM ledger_accounts ORDER BY account_number"
        )
        return [Account(*row) for row in rows]

    def snapshots(self) -> list[Snapshot]:
        return [
            Snapshot(row[0], bytes(row[1]))
            for row in self.query("SELECT sequence, records FROM ledger_snapshots ORDER BY sequence")
        ]

    def rows(self, after: int) -> Iterator[Row]:
        chained = self._chained()
        digest = "(SELECT digest FROM ledger_chain WHERE sequence = ledger_journal.sequence)" if chained else "NULL"
        for row in self._connection.execute(
            f"SELECT sequence, time_ms, records, {digest} FROM ledger_journal WHERE sequence > ? ORDER BY sequence",
            (after,),
        ):
            yield Row(row[0], row[1], bytes(row[2]), bytes(row[3] or b""))

    def first_row(self) -> int:
        return int(self.query("SELECT ifnull(min(sequence), 0) FROM ledger_journal")[0][0])

    def shared(self) -> bool:
        """Whether accounts and balances are copies of an authority's."""
        return bool(self.query("SELECT 1 FROM ledger_meta WHERE key = 'authority_id' AND value <> ''"))

    def last_row(self) -> int:
        """The last row that anything beside the rows themselves speaks of."""
        chain = "ifnull((SELECT max(sequence) FROM ledger_chain), 0)" if self._chained() else "0"
        return int(self.query(f"SELECT max(ifnull(max(sequence), 0), {chain}) FROM ledger_snapshots")[0][0])

    def digest_before(self, sequence: int) -> bytes:
        if not self._chained():
            return b""
        newest = "SELECT digest FROM ledger_chain WHERE sequence < ? ORDER BY sequence DESC LIMIT 1"
        found = self.query(newest, (sequence,))
        return bytes(found[0][0]) if found else b""

    def _chained(self) -> bool:
        return bool(self.query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_chain'"))

    def late_bills(self) -> dict[int, int]:
        return dict(self.query(f"SELECT account_number, count(*) FROM {LATE_BILLS} GROUP BY account_number"))

    def table(self, name: str) -> Iterator[dict[str, Any]]:
        """Rows of a table beside the journal, as an export has them: accounts, funds, audit, …"""
        from headrace.audit.export import TABLES

        cursor = self._connection.execute(TABLES[f"{name}.parquet"])
        names = [column[0] for column in cursor.description]
        yield from (dict(zip(names, row, strict=True)) for row in cursor)


@contextmanager
def open_store(path: Path) -> Iterator[StoreTrail]:
    """Open a database for reading, beside the server that writes it.

    Raises DataError when it is none, StoreError when a later version of this program wrote it.
    """
    if not path.is_file():
        raise DataError(f"{path} is not there", hint="--data names the data folder of a server")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        connection.execute("PRAGMA query_only = ON")
        check_version(version_of(connection), path)
        yield StoreTrail(connection)
    except sqlite3.DatabaseError as error:
        raise DataError(f"{path} cannot be read: {error}", hint="restore it from a backup") from error
    finally:
        connection.close()


def digest_after(before: bytes, row: Row) -> bytes:
    """The chain's digest after a row: BLAKE2b (32 bytes) over the digest before, sequence, time, records."""
    stamp = struct.pack("<qq", row.sequence, row.time_ms)
    return hashlib.blake2b((before or bytes(32)) + stamp + row.records, digest_size=32).digest()


class ExportTrail:
    """A folder that `headrace ledger export` wrote.

    Raises DataError when it is none.
    """

    def __init__(self, folder: Path) -> None:
        try:
            self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
            names = [str(name) for name in self.manifest["journal"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "headrace ledger export makes one"
            raise DataError(f"{folder} is no export of a ledger: {reason_of(error)}", hint=hint) from error
        self.manifest["journal"] = names
        if self.manifest["format"] > FORMAT:
            hint = "audit it with that version"
            raise DataError(f"{folder}: export format", self.manifest["format"], f"at most {FORMAT}", hint)
        self._folder = folder

    def table(self, name: str) -> Iterator[dict[str, Any]]:
        """See `StoreTrail.table`. Raises DataError for a file that cannot be read."""
        import pyarrow as pa
        from pyarrow import parquet

        path = self._folder / f"{name}.parquet"
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            hint = "export anew into another folder"
            raise DataError(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error

    def accounts(self) -> list[Account]:
        renamed = {"number": "account_number", "parent": "parent_number"}
        names = [renamed.get(name, name) for name in Account.__slots__]
        return [Account(*(row[name] for name in names)) for row in self.table("accounts")]

    def snapshots(self) -> list[Snapshot]:
        if not self.manifest["opening"]:
            return []
        return [Snapshot(row["sequence"], row["records"]) for row in self.table("opening")]

    def rows(self, after: int) -> Iterator[Row]:
        from headrace.audit.export import rows_of

        for name in self.manifest["journal"]:
            yield from (row for row in rows_of(self._folder / name) if row.sequence > after)

    def first_row(self) -> int:
        return int(self.manifest["first_sequence"])

    def shared(self) -> bool:
        """See `StoreTrail.shared`."""
        return bool(self.manifest.get("shared", False))

    def last_row(self) -> int:
        return int(self.manifest["last_sequence"])

    def digest_before(self, sequence: int) -> bytes:
        return bytes.fromhex(self.manifest["digest_before"]) if sequence == self.first_row() else b""

    def late_bills(self) -> dict[int, int]:
        counts: Counter[int] = Counter()
        for row in self.table("reconciliation"):
            counts[row["account_number"]] += (row["notice_type"], row["outcome"]) == (2, 3)
        return counts
