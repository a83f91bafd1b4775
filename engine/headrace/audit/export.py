"""The ledger as Parquet files: the journal in sealed segments, the other tables in whole.

A run writes what is new beside what is there and renames the manifest last, so a run that was cut off leaves the export
as it was; files that no manifest names are removed by the next.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from headrace import durable
from headrace.audit.layout import RECORD
from headrace.audit.trail import FORMAT, Row, StoreTrail
from headrace.errors import DataError, reason_of

SEGMENT_RECORDS = 1_000_000
"""Records in one segment of the journal, about."""

BLOCK_RECORDS = 65_536
"""Records in memory at once, about."""

RECORDS = np.dtype(
    [
        ("kind", "u1"),
        ("state", "u1"),
        ("exchange", "<u2"),
        ("account", "<i4"),
        ("lease", "<i8"),
        ("serial", "<u4"),
        ("day", "<i4"),
        ("a", "<i8"),
        ("b", "<i8"),
        ("time_ms", "<i8"),
    ]
)
TABLES = {
    "accounts.parquet": "SELECT account_number, account_id, parent AS parent_number, currency, time_zone, mode, "
    "expire_after_ms, lifetime_micros, daily_micros, flight_start_ms, flight_end_ms FROM ledger_accounts "
    "ORDER BY account_number",
    "funds.parquet": "SELECT entry_id, account_number, amount_micros, time_ms FROM ledger_funds "
    "ORDER BY time_ms, entry_id",
    "exchanges.parquet": "SELECT number, name FROM ledger_exchanges ORDER BY number",
    "audit.parquet": "SELECT audit_id, time_ms, who, action, subject, before, after, why FROM ledger_audit "
    "ORDER BY audit_id",
    "reconciliation.parquet": "SELECT lease_id, serial, notice_type, outcome, account_number, reserved_cpm_micros, "
    "price_cpm_micros, time_ms, token FROM ledger_reconciliation ORDER BY lease_id, serial, notice_type, outcome",
    "brakes.parquet": "SELECT exchange, advertiser_id, reason, who, since_ms FROM ledger_brakes "
    "ORDER BY exchange, advertiser_id",
}
_TEXT = {"account_id", "currency", "time_zone", "entry_id", "who", "action", "subject", "before", "after"}
_TEXT |= {"why", "token", "exchange", "advertiser_id", "reason", "name"}


def export(trail: StoreTrail, folder: Path, since_ms: int = 0) -> dict[str, Any]:
    """Bring an export up to date; returns its manifest.

    since_ms : of a new export, the commit time from which journal rows are written; 0: all that there are.

    Raises DataError when the folder cannot be made or holds another ledger's, or rows after its last are gone from the
    store.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} cannot be made: {reason_of(error)}", hint="name a folder that can be") from error
    manifest = _begin(trail, folder, since_ms)
    manifest["shared"] = trail.shared()
    _write_segments(trail, folder, manifest)
    if trail.last_row() > manifest["last_sequence"]:
        hint = "headrace ledger audit says more; nothing was written"
        raise DataError(f"the journal ends before row {trail.last_row()}, which was written", hint=hint)
    for name, query in TABLES.items():
        _replace(folder / name, _table(trail, query))
    scratch = folder / "manifest.json.new"
    scratch.write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    _rename(scratch, folder / "manifest.json")
    for path in folder.glob("journal-*.parquet"):
        if path.name not in manifest["journal"]:
            path.unlink()
    return manifest


def _begin(trail: StoreTrail, folder: Path, since_ms: int) -> dict[str, Any]:
    ledger_id = ledger_id_of(trail)
    first = trail.first_row()
    path = folder / "manifest.json"
    if path.exists():
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if (manifest["format"], manifest["ledger_id"]) != (FORMAT, ledger_id):
            raise DataError(f"{folder} holds the export of ledger {manifest['ledger_id']}", hint="name another folder")
        if first > manifest["last_sequence"] + 1:
            raise DataError(
                f"journal rows {manifest['last_sequence'] + 1} to {first - 1} are gone from the store",
                hint="export more often than the billing window is long; begin anew in another folder",
            )
        return manifest
    return _first_manifest(trail, folder, ledger_id, since_ms)


def _first_manifest(trail: StoreTrail, folder: Path, ledger_id: str, since_ms: int) -> dict[str, Any]:
    """Where an export begins: at the journal's first row, or after the newest snapshot before a moment."""
    first, snapshots = trail.first_row(), trail.snapshots()
    opening = snapshots[0] if snapshots and first != 1 else None
    for snapshot in snapshots:
        times = trail.query("SELECT time_ms FROM ledger_journal WHERE sequence = ?", (snapshot.sequence,))
        if since_ms and times and times[0][0] < since_ms:
            opening = snapshot
    after = opening.sequence if opening is not None else 0
    if opening is not None:
        columns = {"sequence": pa.array([after], pa.int64()), "records": pa.array([opening.records], pa.binary())}
        _replace(folder / "opening.parquet", pa.table(columns))
    return {
        "format": FORMAT,
        "ledger_id": ledger_id,
        "opening": after,
        "first_sequence": after + 1,
        "last_sequence": after,
        "digest_before": trail.digest_before(after + 1).hex(),
        "journal": [],
    }


def ledger_id_of(trail: StoreTrail) -> str:
    """The random number of a ledger, as text."""
    rows = trail.query("SELECT value FROM ledger_meta WHERE key = 'ledger_id'")
    return str(rows[0][0]) if rows else ""


def _write_segments(trail: StoreTrail, folder: Path, manifest: dict[str, Any]) -> None:
    blocks = _blocks(trail.rows(manifest["last_sequence"]))
    for block in blocks:
        scratch, first = folder / "journal.parquet.new", block[0].sequence
        last = _write_segment(scratch, block, blocks)
        name = f"journal-{first:012d}-{last:012d}.parquet"
        _rename(scratch, folder / name)
        manifest["journal"].append(name)
        manifest["last_sequence"] = last


def _write_segment(path: Path, block: list[Row] | None, more: Iterator[list[Row]]) -> int:
    """Write a block and as many more as make a segment; the last row's sequence."""
    n = last = 0
    with ExitStack() as stack:
        file: parquet.ParquetWriter | None = None
        while block is not None:
            table = _decoded(block)
            if file is None:
                file = stack.enter_context(parquet.ParquetWriter(path, table.schema, compression="zstd"))
            file.write_table(table)
            n, last = n + len(table), block[-1].sequence
            block = next(more, None) if n < SEGMENT_RECORDS else None
    return last


def _blocks(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """What is in memory at once."""
    block: list[Row] = []
    n = 0
    for row in rows:
        if len(row.records) % RECORD.size:
            raise DataError(f"journal row {row.sequence} is torn", hint="headrace ledger audit says more")
        block.append(row)
        n += len(row.records) // RECORD.size
        if n >= BLOCK_RECORDS:
            yield block
            block, n = [], 0
    if block:
        yield block


def _decoded(rows: list[Row]) -> pa.Table:
    """One line a record; the row's sequence, commit time and digest stand on each of its lines."""
    counts = [len(row.records) // RECORD.size for row in rows]
    records = np.frombuffer(b"".join(row.records for row in rows), RECORDS)
    digests = pa.array([row.digest for row in rows], pa.binary())
    repeated = pa.DictionaryArray.from_arrays(np.repeat(np.arange(len(rows), dtype=np.int32), counts), digests)
    columns: dict[str, Any] = {
        "sequence": np.repeat(np.array([row.sequence for row in rows], np.int64), counts),
        "commit_time_ms": np.repeat(np.array([row.time_ms for row in rows], np.int64), counts),
        "digest": repeated,
    }
    return pa.table(columns | {name: np.ascontiguousarray(records[name]) for name in RECORDS.names or ()})


def rows_of(path: Path) -> Iterator[Row]:
    """The journal rows of one segment, as they were committed. Raises DataError."""
    begun: Row | None = None  # a batch may end within it
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(BLOCK_RECORDS):
                for row in _rows_in(batch):
                    if begun is not None and begun.sequence == row.sequence:
                        begun = begun._replace(records=begun.records + row.records)
                        continue
                    if begun is not None:
                        yield begun
                    begun = row
    except (OSError, pa.ArrowException) as error:
        hint = "export anew into another folder"
        raise DataError(f"{path} cannot be read: {reason_of(error)}", hint=hint) from error
    if begun is not None:
        yield begun


def _rows_in(batch: pa.RecordBatch) -> Iterator[Row]:
    records = np.empty(len(batch), RECORDS)
    for name in RECORDS.names or ():
        records[name] = batch[name].to_numpy()
    sequences = batch["sequence"].to_numpy()
    starts = np.flatnonzero(np.diff(sequences, prepend=-1))
    times, digests = batch["commit_time_ms"].to_numpy(), batch["digest"]
    ends = np.append(starts[1:], len(batch))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield Row(int(sequences[start]), int(times[start]), records[start:end].tobytes(), digests[start].as_py())


def _table(trail: StoreTrail, query: str) -> pa.Table:
    names = _columns_of(query)
    types = [pa.string() if name in _TEXT else pa.int64() for name in names]
    batches = []
    rows = trail.iterate(query)
    while block := list(islice(rows, 65_536)):
        columns = [pa.array(column, kind) for column, kind in zip(zip(*block, strict=True), types, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(columns, names=names))
    return pa.Table.from_batches(batches, pa.schema(list(zip(names, types, strict=True))))


def _columns_of(query: str) -> list[str]:
    listed = query.removeprefix("SELECT ").split(" FROM ")[0].split(", ")
    return [name.split(" AS ")[-1] for name in listed]


def _replace(path: Path, table: pa.Table) -> None:
    scratch = path.with_name(path.name + ".new")
    parquet.write_table(table, scratch, compression="zstd")
    _rename(scratch, path)


def _rename(scratch: Path, path: Path) -> None:
    durable.sync(scratch)
    scratch.replace(path)
    durable.sync(path.parent)
