"""The log as columns, for training and for files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.events.identity import join_name
from headrace.events.schema import LOGIN
from headrace.events.store import Store
from headrace.types import Bool, Float64, Int8, Int32, Int64

_CHUNK = 100_000
_ROW = np.dtype(
    [
        ("sequence", "i8"), ("subject_key", "i8"), ("anonymous_key", "i8"), ("type", "i1"),
        ("item_key", "i8"), ("time_ms", "i8"), ("quantity", "f8"), ("price_micros", "i8"),
    ]
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_ROW.names or ())} FROM events WHERE sequence > ? ORDER BY sequence LIMIT ?"


@dataclass(frozen=True, slots=True)
class EventColumns:
    """A stretch of the log in order of sequence, one array a column; key 0 means none."""

    sequences: Int64
    subject_keys: Int64
    anonymous_keys: Int64
    types: Int8
    item_keys: Int64
    times_ms: Int64
    quantities: Float64
    prices_micros: Int64

    def __len__(self) -> int:
        return len(self.sequences)


@dataclass(frozen=True, slots=True)
class TrainingColumns:
    """All item events of people who have a name, logins resolved, in order of sequence.

    user_idx : (n,) int32 into user_names, in order of first event; anonymous visitors have names of their own.
    item_idx : (n,) int32 into item_ids, in order of first event.
    times_ms : (n,) int64. types : (n,) int8 as in events.proto. quantities : (n,) float64. prices_micros : (n,) int64.
    log_id, log_sequence : the log, and its last sequence when it was read.
    """

    user_idx: Int32
    user_names: list[str]
    item_idx: Int32
    item_ids: list[str]
    times_ms: Int64
    types: Int8
    quantities: Float64
    prices_micros: Int64
    log_id: str
    log_sequence: int


def read(store: Store, since: int, limit: int) -> EventColumns:
    """At most ``limit`` events after sequence ``since``."""
    table = np.array(store.read(_SELECT, (since, limit)), dtype=_ROW)
    return EventColumns(*(np.ascontiguousarray(table[name]) for name in _ROW.names or ()))


def read_training(store: Store, log_id: str, until_ms: int | None) -> TrainingColumns:
    """See TrainingColumns; only events before ``until_ms`` when given."""
    events = _read_all(store)
    log_sequence = int(events.sequences[-1]) if len(events) else 0
    if until_ms is not None:
        # before logins are resolved: one that came later was not known then
        events = _select(events, events.times_ms < until_ms)
    subjects = _resolve_logins(events)
    names = {
        key: join_name(kind, text)
        for key, kind, text in store.read("SELECT subject_key, kind, external_id FROM subjects")
    }
    wanted = (events.item_keys > 0) & np.isin(subjects, np.fromiter(names, np.int64, len(names)))
    user_idx, user_keys = _dense(subjects[wanted])
    item_idx, item_keys = _dense(events.item_keys[wanted])
    item_ids = dict(store.read("SELECT item_key, item_id FROM items"))
    return TrainingColumns(
        user_idx=user_idx,
        user_names=[names[key] for key in user_keys],
        item_idx=item_idx,
        item_ids=[item_ids[key] for key in item_keys],
        times_ms=events.times_ms[wanted],
        types=events.types[wanted],
        quantities=events.quantities[wanted],
        prices_micros=events.prices_micros[wanted],
        log_id=log_id,
        log_sequence=log_sequence,
    )


def _read_all(store: Store) -> EventColumns:
    parts = [read(store, 0, _CHUNK)]
    while len(parts[-1]) == _CHUNK:
        parts.append(read(store, int(parts[-1].sequences[-1]), _CHUNK))
    return EventColumns(*(np.concatenate([getattr(part, name) for part in parts]) for name in EventColumns.__slots__))


def _resolve_logins(events: EventColumns) -> Int64:
    """Subject of each event; an anonymous one's events go to the user of its next login after them."""
    subjects = events.subject_keys.copy()
    logins = np.flatnonzero(events.types == LOGIN)
    if not len(logins):
        return subjects
    logins = logins[np.lexsort((events.sequences[logins], events.anonymous_keys[logins]))]
    visitors, starts = np.unique(events.anonymous_keys[logins], return_index=True)
    ends = np.append(starts[1:], len(logins))
    visitor_of = np.searchsorted(visitors, subjects)
    mine = np.flatnonzero(
        (visitor_of < len(visitors)) & (visitors[np.minimum(visitor_of, len(visitors) - 1)] == subjects)
    )
    for visitor in np.unique(visitor_of[mine]):
        rows = mine[visitor_of[mine] == visitor]
        own = logins[starts[visitor] : ends[visitor]]
        following = np.searchsorted(own, rows)
        moved = following < len(own)
        subjects[rows[moved]] = events.subject_keys[own[following[moved]]]
    return subjects


def _dense(keys: Int64) -> tuple[Int32, list[int]]:
    """Codes in order of first appearance, and the key of each code."""
    distinct, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(distinct), dtype=np.int32)
    rank[order] = np.arange(len(distinct), dtype=np.int32)
    return rank[inverse], distinct[order].tolist()


def names_of(store: Store, subject_keys: Sequence[int]) -> dict[int, str]:
    """Names of those subjects that still have one, by key."""
    found: dict[int, str] = {}
    for first in range(0, len(subject_keys), 500):
        keys = tuple(subject_keys[first : first + 500])
        marks = ", ".join("?" * len(keys))
        query = f"SELECT subject_key, kind, external_id FROM subjects WHERE subject_key IN ({marks})"
        found |= {key: join_name(kind, text) for key, kind, text in store.read(query, keys)}
    return found


def export_parquet(store: Store, path: Path, until_sequence: int) -> int:
    """Write the events up to a sequence to a Parquet file, subjects by key only; returns their number."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [*((name, pa.from_numpy_dtype(_ROW[name])) for name in _ROW.names or ()), ("item_id", pa.string())]
    )
    item_ids = {0: "", **dict(store.read("SELECT item_key, item_id FROM items"))}
    n_events, since = 0, 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while len(events := read(store, since, _CHUNK)):
            events = _select(events, events.sequences <= until_sequence)
            columns: list[Any] = [getattr(events, name) for name in EventColumns.__slots__]
            columns.append([item_ids[key] for key in events.item_keys.tolist()])
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
            n_events += len(events)
            if not len(events) or events.sequences[-1] >= until_sequence:
                break
            since = int(events.sequences[-1])
    return n_events


def _select(events: EventColumns, rows: Bool | npt.NDArray[np.intp]) -> EventColumns:
    return EventColumns(*(getattr(events, name)[rows] for name in EventColumns.__slots__))
