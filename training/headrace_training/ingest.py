"""Files of events into the event log, row by row accounted for."""

from __future__ import annotations

import csv
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.errors import DataError
from headrace.events.log import EventLog
from headrace.events.store import DATABASE, Store
from headrace.types import Bool, Float64, Int8, Int64
from headrace_training.mapping import EVENT_TYPES, Columns, Mapping
from headrace_training.progress import track
from headrace_training.tables import Table
from headrace_training.values import TimeParser, number_column, text_column

MAX_ID_BYTES = 256
MAX_CHANNEL_BYTES = 64
MAX_AHEAD_MS = 86_400_000

REQUIRED = ("user", "item", "time")


@dataclass
class Summary:
    """What became of the rows of one or more files; every row is in exactly one of the counts.

    rejected : number of rows by the reason they were refused.
    """

    files: int = 0
    rows: int = 0
    accepted: int = 0
    duplicates: int = 0
    missing_user: int = 0
    dropped_returns: int = 0
    dropped_types: int = 0
    returns: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    sequence: int = 0

    def report(self) -> dict[str, Any]:
        """The counts by name; returns are among accepted and duplicates."""
        return {**vars(self), "rejected": sum(self.rejected.values()), "rejected_by_reason": dict(self.rejected)}


@dataclass
class Rows:
    """One batch while it is judged; a row with a reason is not stored. All arrays have one value a row."""

    numbers: Sequence[int]
    users: list[str | None]
    items: list[str | None]
    times_ms: Int64
    types: Int8
    quantities: Float64
    prices_micros: Int64
    channels: list[str]
    event_ids: list[str | None]
    reasons: dict[int, str] = field(default_factory=dict)

    def refuse(self, bad: Bool, reason: str) -> None:
        """Note why rows cannot be stored; the first reason of a row stays."""
        for place in np.flatnonzero(bad).tolist():
            self.reasons.setdefault(place, reason)


def find_columns(table: Table, mapping: Mapping) -> dict[str, str]:
    """Role → column, of the columns that are there; DataError for one that must be, or that is there twice."""
    chosen = {name: getattr(mapping.columns, name) for name in Columns.__struct_fields__}
    defaults = {name: getattr(Columns(), name) for name in chosen}
    must = [role for role in chosen if chosen[role] and (role in REQUIRED or chosen[role] != defaults[role])]
    must += [role for role in chosen if role not in must and chosen[role] in table.columns]
    for role in must:
        option = f"--{role.replace('_', '-')}-column"
        table.require([chosen[role]], f"name the {role} column with {option} or in the mapping")
    return {role: column for role, column in chosen.items() if column in table.columns}


def check_files(paths: Sequence[Path], mapping: Mapping) -> list[tuple[Table, dict[str, str]]]:
    """Each file with its columns by role; DataError for the first that is no table of events."""
    return [(table := Table.open(path), find_columns(table, mapping)) for path in paths]


class Ingester:
    """Reads files into one log.

    strict  : the first rejected row is a DataError and its batch is not stored.
    rejects : CSV file for rejected rows (file, row, reason), None for none.
    now_ms : ms since 1970; later times than a day from here are rejected, as RecordEvents does. None: the machine's.
    """

    def __init__(
        self,
        log: EventLog,
        mapping: Mapping,
        *,
        strict: bool = False,
        rejects: Path | None = None,
        now_ms: int | None = None,
    ) -> None:
        self.log = log
        self.mapping = mapping
        self.strict = strict
        self.summary = Summary()
        self._times = TimeParser(mapping.time_format, mapping.time_unit, mapping.timezone)
        self._rejects = rejects
        self._latest_ms = (time.time_ns() // 1_000_000 if now_ms is None else now_ms) + MAX_AHEAD_MS

    def run(self, paths: Sequence[Path]) -> Summary:
        """Ingest files in their order; all headers are checked before the first row is stored. Raises DataError."""
        tables = check_files(paths, self.mapping)
        with ExitStack() as stack:
            writer = None
            if self._rejects is not None:
                writer = csv.writer(stack.enter_context(self._rejects.open("w", newline="", encoding="utf-8")))
                writer.writerow(["file", "row", "reason"])
            for table, roles in tables:
                self.summary.files += 1
                self._file(table, roles, writer)
        return self.summary

    def _file(self, table: Table, roles: dict[str, str], writer: Any) -> None:
        seen_malformed = 0
        for numbers, batch in track(table.batches(list(roles.values())), f"{table.path.name}: batches"):
            rows = self._rows(numbers, {role: batch.column(column) for role, column in roles.items()})
            self._judge(rows)
            malformed = table.malformed[seen_malformed:]
            seen_malformed += len(malformed)
            self._refused(table.path, malformed, {}, writer)
            self._refused(table.path, [], rows.reasons, writer, rows.numbers)
            self._store(rows)
        self._refused(table.path, table.malformed[seen_malformed:], {}, writer)

    def _rows(self, numbers: Sequence[int], columns: dict[str, Any]) -> Rows:
        n = len(numbers)
        blank = pa.nulls(n, pa.string())
        times, bad_times = self._times.parse(columns["time"])
        quantities, bad_quantities = number_column(columns.get("quantity", blank), default=1.0)
        prices, bad_prices = number_column(columns.get("price", blank), default=0.0)
        bad_prices |= (prices < 0) | (prices > 9e12)
        channels = text_column(columns["channel"]) if "channel" in columns else [None] * n
        words = text_column(columns["type"]) if "type" in columns else [None] * n
        known = {word: self.mapping.type_number(word) for word in set(words)}
        rows = Rows(
            numbers=numbers,
            users=text_column(columns["user"]),
            items=text_column(columns["item"]),
            times_ms=times,
            types=np.array([known[word] for word in words], dtype=np.int8),
            quantities=quantities,
            prices_micros=np.rint(np.where(bad_prices, 0.0, prices) * 1e6).astype(np.int64),
            channels=[channel or self.mapping.default_channel for channel in channels],
            event_ids=text_column(columns["event_id"]) if "event_id" in columns else [None] * n,
        )
        rows.refuse(bad_times, "the time cannot be read or is before 1970")
        rows.refuse(times > self._latest_ms, "the time is more than a day ahead; see --time-unit")
        rows.refuse(bad_quantities, "the quantity is no finite number")
        rows.refuse(bad_prices, "the price is no finite number of zero or more")
        return rows

    def _judge(self, rows: Rows) -> None:
        """Refuse what cannot be an event, turn negative quantities into returns, take out what the mapping drops."""
        rows.refuse(rows.types < 0, "the event type is not known; map it in [event_types]")
        rows.refuse(np.array([item is None for item in rows.items], dtype=np.bool_), "the item id is empty")
        rows.refuse(
            _too_long(rows.items, MAX_ID_BYTES), f"the item id is longer than {MAX_ID_BYTES} bytes or holds NUL"
        )
        rows.refuse(
            _too_long(rows.users, MAX_ID_BYTES), f"the user id is longer than {MAX_ID_BYTES} bytes or holds NUL"
        )
        rows.refuse(
            _too_long(rows.channels, MAX_CHANNEL_BYTES), f"the channel is longer than {MAX_CHANNEL_BYTES} bytes"
        )
        rows.refuse(rows.quantities == 0, "the quantity is zero")
        negative = rows.quantities < 0
        if self.mapping.returns == "error":
            rows.refuse(negative, "the quantity is negative and --returns is error")
        missing = np.array([user is None for user in rows.users], dtype=np.bool_)
        if self.mapping.missing_user == "error":
            rows.refuse(missing, "the user id is empty and --missing-user is error")
        if self.mapping.returns == "return":
            rows.types[negative & (rows.types > 0)] = EVENT_TYPES["return"]
            rows.quantities = np.abs(rows.quantities)

    def _refused(
        self, path: Path, malformed: list[tuple[int, str]], reasons: dict[int, str], writer: Any, numbers: Any = ()
    ) -> None:
        found = malformed + [(int(numbers[place]), reason) for place, reason in sorted(reasons.items())]
        stops = "--returns is error", "--missing-user is error"
        for number, reason in found:
            if self.strict or reason.endswith(stops):
                raise DataError(
                    f"{path}, row {number}: {reason}",
                    hint=f"correct the row; {self.summary.accepted} events of earlier rows are stored and stay",
                )
            # a reason is counted without the row's own figures, so that counts stay few
            self.summary.rejected["wrong number of fields" if malformed else reason] += 1
            if writer is not None:
                writer.writerow([str(path), number, reason])
        self.summary.rows += len(malformed) + len(numbers)

    def _store(self, rows: Rows) -> None:
        """Append what was not refused, less what the mapping leaves out."""
        keep = np.ones(len(rows.numbers), dtype=np.bool_)
        keep[list(rows.reasons)] = False
        missing = keep & np.array([user is None for user in rows.users], dtype=np.bool_)
        keep &= ~missing
        dropped_types = keep & (rows.types == 0)
        keep &= ~dropped_types
        # only --returns drop leaves a quantity negative
        dropped_returns = keep & (rows.quantities < 0)
        keep &= ~dropped_returns
        self.summary.missing_user += int(missing.sum())
        self.summary.dropped_types += int(dropped_types.sum())
        self.summary.dropped_returns += int(dropped_returns.sum())
        self.summary.returns += int((rows.types[keep] == EVENT_TYPES["return"]).sum())
        places = np.flatnonzero(keep)
        if not len(places):
            return
        picked = places.tolist()
        appended = self.log.append_columns(
            user_ids=[rows.users[place] for place in picked],
            item_ids=[rows.items[place] for place in picked],
            times_ms=rows.times_ms[places],
            types=rows.types[places],
            quantities=rows.quantities[places],
            prices_micros=rows.prices_micros[places],
            channels=[rows.channels[place] for place in picked],
            event_ids=list(_event_ids(rows, picked)),
        )
        self.summary.accepted += appended.accepted
        self.summary.duplicates += appended.duplicates
        self.summary.sequence = appended.sequence


def _too_long(values: Sequence[str | None], limit: int) -> Bool:
    return np.array(
        [value is not None and (len(value.encode()) > limit or "\0" in value) for value in values], dtype=np.bool_
    )


def _event_ids(rows: Rows, places: list[int]) -> Iterator[str]:
    """The file's event ids, or names made of the row's whole content: rows alike in every column are one event."""
    for place in places:
        given = rows.event_ids[place]
        if given is not None:
            yield given
            continue
        moment = int(rows.times_ms[place])
        content = "\0".join(
            (
                str(rows.users[place]),
                str(rows.items[place]),
                str(int(rows.types[place])),
                repr(float(rows.quantities[place])),
                str(int(rows.prices_micros[place])),
                rows.channels[place],
            )
        )
        # the time first: a file in order of time appends to the end of the log's index
        yield f"{moment:012x}{hashlib.blake2b(content.encode(), digest_size=10).hexdigest()}"


def open_log(folder: Path, *, create: bool = False) -> EventLog:
    """The event log in a folder; DataError when there is none and none may be created."""
    path = folder / DATABASE
    if not create and not path.exists():
        raise DataError(f"no event log at {path}", hint="ingest events first, or correct --log")
    return EventLog(Store(path))
