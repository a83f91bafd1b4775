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

_NEVER = np.iinfo(np.int64).max


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
        self._expire_ms = np.full(self.n_items, _NEVER, dtype=np.int64)
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
        for change in changes:
            self._apply_one(change)
        if changes:
            self.change_sequence = max(change.change_sequence for change in changes)
            self._mask = None

    def rows_of_keys(self, item_keys: npt.NDArray[np.int64]) -> Int32:
        """Rows of item keys of the log; every key that the log has handed out has one."""
        return np.asarray(self._row_of_key[item_keys])

    def banned(self, now_ms: int) -> UInt32:
        """(n_rows,) uint32: all bits set for items that may not be shown then, none for the others; read-only."""
        if self._mask is None or not self._mask_from_ms <= now_ms < self._mask_until_ms:
            n = self.n_rows
            publish, expire = self._publish_ms[:n], self._expire_ms[:n]
            shown = ~self._blocked[:n] & (publish <= now_ms) & (now_ms < expire)
            self._mask = np.where(shown, np.uint32(0), np.uint32(0xFFFFFFFF))
            moments = np.concatenate((publish, expire))
            self._mask_from_ms = int(moments[moments <= now_ms].max(initial=0))
            self._mask_until_ms = int(moments[moments > now_ms].min(initial=_NEVER))
        return self._mask

    def _apply_one(self, change: ItemChange) -> None:
        row = self.rows.find(change.item_id)
        if row < 0:
            row = self._add_row(change.item_id)
        if change.item_key >= len(self._row_of_key):
            self._row_of_key = _grown(self._row_of_key, change.item_key + 1, -1)
        self._row_of_key[change.item_key] = row
        outside = row >= self.n_items and not change.in_catalog
        self._blocked[row] = bool(change.unavailable) or outside
        self._publish_ms[row] = change.publish_time_ms
        self._expire_ms[row] = change.expire_time_ms or _NEVER
        self.rows.set_price(row, change.price_micros)
        if change.attributes != "{}":
            self.attributes[row] = json.loads(change.attributes)
        else:
            self.attributes.pop(row, None)

    def _add_row(self, item_id: str) -> int:
        row = self.n_rows
        if row >= len(self._blocked):
            self._blocked = _grown(self._blocked, row + 1, True)
            self._publish_ms = _grown(self._publish_ms, row + 1, 0)
            self._expire_ms = _grown(self._expire_ms, row + 1, _NEVER)
        return self.rows.add(item_id)


def _grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    out = np.full(max(size, 2 * len(array)), fill, dtype=array.dtype)
    out[: len(array)] = array
    return out
