"""The journal's bytes, read anew: 48 bytes a record, little-endian (see docs/ledger.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

RECORD = struct.Struct("<BBHiqIiqqq")
ALL_DAYS = -(2**31)
"""The budget day of what belongs to no day any more."""
STATES_AT = 24
"""Where the settled states of a record of `Kind.STATES` begin; they fill the rest of it."""
NANOS = 1000


class Kind(IntEnum):
    GRANT = 1
    CLOSE = 2
    SETTLE = 3
    OPEN = 4
    LEASE = 5
    MONEY = 6
    STATES = 7
    BASE = 8
    LIMITS = 9


class State(IntEnum):
    """What became of one token."""

    ABSENT = 0
    RESERVED = 1
    WON = 2
    DISPUTED = 3
    BILLED = 4
    LOST = 5
    EXPIRED = 6
    LATE = 7
    LOST_DISPUTED = 8


class Record(NamedTuple):
    """One record; what the fields hold depends on the kind."""

    kind: int
    state: int
    exchange: int
    account: int
    lease: int
    serial: int
    day: int
    a: int
    b: int
    time_ms: int


def ceil_micros(nanos: int) -> int:
    """Whole micros that cover nanos; a CPM price in micros is the price of one impression in nanos."""
    return -(-nanos // NANOS)


def read_records(blob: bytes) -> Iterator[Record]:
    """The records of one journal row. Raises ValueError when it is not a whole number of records."""
    if len(blob) % RECORD.size:
        raise ValueError(f"{len(blob)} bytes are no whole number of records")
    return map(Record._make, RECORD.iter_unpack(blob))


def states_of(record: Record) -> bytes:
    """The 24 settled states of a record of `Kind.STATES`, one byte each."""
    return RECORD.pack(*record)[STATES_AT:]
