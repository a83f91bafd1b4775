"""The prices at which bids were billed, gathered from journal rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from headrace.audit.export import RECORDS
from headrace.audit.layout import Kind, State
from headrace.audit.trail import Account, Row, Snapshot, Trail
from headrace.types import Int64

_SERIALS = 2**32


class Billed:
    """Bids that the journal says were billed, late ones included, sorted by lease and serial.

    table : (n,) of `RECORDS`, settlements in the order of the journal.
    """

    def __init__(self, table: np.ndarray) -> None:
        self._leases = np.unique(table["lease"])
        keys = self._keys(table["lease"], table["serial"].astype(np.int64))
        order = np.argsort(keys, kind="stable")
        self._table, self._sorted = table[order], keys[order]

    def _keys(self, leases: Int64, serials: Int64) -> Int64:
        """Lease and serial as one number; -1 for a lease that none was billed of."""
        at = np.searchsorted(self._leases, leases)
        known = at < len(self._leases)
        known[known] = self._leases[at[known]] == leases[known]
        return np.where(known, at * _SERIALS + serials, -1)

    def prices(self, leases: Int64, serials: Int64) -> Int64:
        """CPM micros at which bids were billed, (n,); -1 where none of these rows says it."""
        if not len(self._sorted):
            return np.full(len(leases), -1, np.int64)
        keys = self._keys(leases, serials)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where((self._sorted[at] == keys) & (keys >= 0), self._table["b"][at], -1)

    def between(self, from_ms: int, until_ms: int, exchange: int) -> Iterator[tuple[int, int, int]]:
        """Lease, serial and price of what was billed in [from_ms, until_ms) by the exchange of a number; 0: by any."""
        times, exchanges = self._table["time_ms"], self._table["exchange"]
        chosen = (times >= from_ms) & (times < until_ms) & ((exchanges == exchange) | (exchange == 0))
        rows = self._table[chosen]
        yield from zip(rows["lease"].tolist(), rows["serial"].tolist(), rows["b"].tolist(), strict=True)


class PricedTrail:
    """A trail that gathers prices while it is read."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._found: list[np.ndarray] = []

    def billed(self) -> Billed:
        """What was gathered so far."""
        return Billed(np.concatenate([np.empty(0, RECORDS), *self._found]))

    def rows(self, after: int) -> Iterator[Row]:
        for row in self._trail.rows(after):
            if len(row.records) % RECORDS.itemsize == 0:
                records = np.frombuffer(row.records, RECORDS)
                ends = (records["state"] == State.BILLED) | (records["state"] == State.LATE)
                self._found.append(records[(records["kind"] == Kind.SETTLE) & ends])
            yield row

    def accounts(self) -> list[Account]:
        return self._trail.accounts()

    def snapshots(self) -> list[Snapshot]:
        return self._trail.snapshots()

    def first_row(self) -> int:
        return self._trail.first_row()

    def shared(self) -> bool:
        return self._trail.shared()

    def last_row(self) -> int:
        return self._trail.last_row()

    def digest_before(self, sequence: int) -> bytes:
        return self._trail.digest_before(sequence)

    def late_bills(self) -> dict[int, int]:
        return self._trail.late_bills()

    def table(self, name: str) -> Iterator[dict[str, Any]]:
        return self._trail.table(name)
