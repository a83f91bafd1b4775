"""What may be shown: the artifact's items and the catalog's, one row each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace._native import ItemRows
from headrace.events.items import ItemChange
from headrace.ids import IdTable
from headrace.types import Int32, UInt32

_NEVER = int(np.iinfo(np.int64).max)
_HIDDEN = np.uint32(0xFFFFFFFF)
_FEW = 4096
"""Rows that may change at once for the mask to be changed and not made anew."""


class ItemTable:
    """Rows 0 … n_items - 1 are the artifact's; behind them stand items that only the log knows, in order of their key.

    Not locked: UserState's lock guards changes against readers. Ids and prices live in ``rows``, without a Python
    object for each; ``attributes`` has a row's where the catalog gives any.
    """

    def __init__(self, item_ids: IdTable) -> None:
        self.n_items = len(item_ids)
        self.rows = ItemRows(np.asarray(item_ids.offsets), np.asarray(item_ids.blob))
        self.attributes: dict[int, dict[str, str]] = {}
        self.change_sequence = 0
        self._row_of_key = np.full(1024, -1, dtype=np.int32)
        self._blocked = np.zeros(self.n_items, dtype=np.bool_)
        self._publish_ms = np.zeros(self.n_items, dtype=np.int64)
        self._expire_ms = np.zeros(self.n_items, dtype=np.int64)
        self._timed = False
        self._mask: UInt32 | None = None
        self._mask_from_ms = self._mask_until_ms = 0

    @property
    def n_rows(self) -> int:
        """Rows in all."""
        return len(self.rows)

    @property
    def ids(self) -> list[str]:
        """Ids of all rows, for tests and tools; made anew each time."""
        return [self.rows.id(row) for row in range(self.n_rows)]

    def apply(self, changes: list[ItemChange]) -> None:
        """Take over what changed in the log's items; ``changes`` in order of item_key."""
        rows = [self._apply_one(change) for change in changes]
        if rows:
            self.change_sequence = max(change.change_sequence for change in changes)
            self._change_mask(np.array(rows, dtype=np.int32))

    def rows_of_keys(self, item_keys: npt.NDArray[np.int64]) -> Int32:
        """Rows of item keys of the log; every key that the log has handed out has one."""
        return np.asarray(self._row_of_key[item_keys])

    def banned(self, now_ms: int) -> UInt32:
        """(n_rows,) uint32: all bits set for items that may not be shown then, none for the others; read-only."""
        if self._mask is None or not self._mask_from_ms <= now_ms < self._mask_until_ms:
            every = slice(0, self.n_rows)
            self._mask = self._hidden(every, now_ms)
            self._mask_from_ms, self._mask_until_ms = self._moments(every, now_ms)
        return self._mask

    def _change_mask(self, rows: Int32) -> None:
        """Bring the mask up to date where rows changed; who has the old one keeps it as it was."""
        old = self._mask
        if old is None:
            return
        if len(rows) > _FEW:
            self._mask = None
            return
        self._mask = np.full(self.n_rows, _HIDDEN, dtype=np.uint32)
        self._mask[: len(old)] = old
        self._mask[rows] = self._hidden(rows, self._mask_from_ms)
        self._mask_until_ms = min(self._mask_until_ms, self._moments(rows, self._mask_from_ms)[1])

    def _hidden(self, rows: slice | Int32, now_ms: int) -> UInt32:
        hidden = self._blocked[rows]
        if self._timed:
            publish, expire = self._publish_ms[rows], self._expire_ms[rows]
            hidden = hidden | (publish > now_ms) | ((expire <= now_ms) & (expire > 0))
        return np.where(hidden, _HIDDEN, np.uint32(0))

    def _moments(self, rows: slice | Int32, now_ms: int) -> tuple[int, int]:
        """The last moment until now at which one of the rows came or went, 0 for none, and the next one."""
        if not self._timed:
            return 0, _NEVER
        both = self._publish_ms[rows], self._expire_ms[rows]
        last = max(int(times.max(initial=0, where=times <= now_ms)) for times in both)
        return last, min(int(times.min(initial=_NEVER, where=times > now_ms)) for times in both)

    def _apply_one(self, change: ItemChange) -> int:
        row = self.rows.find(change.item_id)
        if row < 0:
            row = self._add_row(change.item_id)
        if change.item_key >= len(self._row_of_key):
            self._row_of_key = _grown(self._row_of_key, change.item_key + 1, -1)
        self._row_of_key[change.item_key] = row
        outside = row >= self.n_items and not change.in_catalog
        self._blocked[row] = bool(change.unavailable) or outside
        self._publish_ms[row] = change.publish_time_ms
        self._expire_ms[row] = change.expire_time_ms
        self._timed |= bool(change.publish_time_ms or change.expire_time_ms)
        self.rows.set_price(row, change.price_micros)
        if change.attributes != "{}":
            self.attributes[row] = json.loads(change.attributes)
        else:
            self.attributes.pop(row, None)
        return row

    def _add_row(self, item_id: str) -> int:
        row = self.n_rows
        if row >= len(self._blocked):
            self._blocked = _grown(self._blocked, row + 1, True)
            self._publish_ms = _grown(self._publish_ms, row + 1, 0)
            self._expire_ms = _grown(self._expire_ms, row + 1, 0)
        return self.rows.add(item_id)


def _grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    out = np.full(max(size, 2 * len(array)), fill, dtype=array.dtype)
    out[: len(array)] = array
    return out
