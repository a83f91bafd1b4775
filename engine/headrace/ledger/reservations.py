"""What became of asking for money: columns, and why some was refused."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from headrace.types import Int8, Int32, Int64


class Reason(IntEnum):
    """Why a reservation was refused; NEED_LEASE never leaves the ledger."""

    OK = 0
    BUDGET = 1
    BRAKE = 2
    JOURNAL_UNAVAILABLE = 3
    NOT_OWNER = 4
    FENCED = 5
    MAX_BID = 6
    NEED_LEASE = 7
    AUTHORITY = 8


class Reservations(NamedTuple):
    """Columns of reserved money, one row a request: reasons int8; leases, serials int64; budget days int32."""

    reasons: Int8
    leases: Int64
    serials: Int64
    days: Int32
