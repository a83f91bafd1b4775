"""What may be shown: the artifact's items and the catalog's, one row each."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from headrace.events.items import ItemChange
from headrace.types import Int32, UInt32

_NEVER = np.iinfo(np.int64).max


class _Ids(Protocol):
    def __len__(self) -> int: ...
    def id(self, idx: int) -> str: ...
    def find(self, name: str) -> int: ...


class ItemIds:
    """The id of each row: the artifact's as it has them on disk, the catalog's in a list."""

    __slots__ = ("_added", "_first")

    def __init__(self, first: _Ids, added: list[str]) -> None:
        self._first = first
        self._added = added

    def __len__(self) -> int:
        return len(self._first) + len(self._added)

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, row: int) -> str:
        n_first = len(self._first)
        return self._first.id(row) if row < n_first else self._added[row - n_first]


class ItemRows:
    """The row of each id; a dictionary of a million strings would cost a second of every start and swap."""

    __slots__ = ("_added", "_first")

    def __init__(self, first: _Ids, added: dict[str, int]) -> None:
        self._first = first
        self._added = added

    def get(self, item_id: str, default: int = -1) -> int:
        """The row, or the default for an id that neither the artifact nor the log knows."""
        row = self._first.find(item_id)
        return row if row >= 0 else self._added.get(item_id, default)


class ItemTable:
    """Rows 0 … n_items - 1 are the artifact's; behind them stand items that only the log knows, in order of their key.

    Not locked: UserState's lock guards changes against readers.
    """

    def __init__(self, item_ids: _Ids) -> None:
        self.n_items = len(item_ids)
        self._added: list[str] = []
        self._row_of_added: dict[str, int] = {}
        self.ids = ItemIds(item_ids, self._added)
        self.row_of_id = ItemRows(item_ids, self._row_of_added)
        self.prices_micros = [0] * self.n_items
        self.attributes: list[dict[str, str]] = [{}] * self.n_items
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
        return len(self.ids)

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
        row = self.row_of_id.get(change.item_id, -1)
        if row < 0:
            row = self._add_row(change.item_id)
        if change.item_key >= len(self._row_of_key):
            self._row_of_key = _grown(self._row_of_key, change.item_key + 1, -1)
        self._row_of_key[change.item_key] = row
        outside = row >= self.n_items and not change.in_catalog
        self._blocked[row] = bool(change.unavailable) or outside
        self._publish_ms[row] = change.publish_time_ms
        self._expire_ms[row] = change.expire_time_ms or _NEVER
        self.prices_micros[row] = change.price_micros
        self.attributes[row] = json.loads(change.attributes) if change.attributes != "{}" else {}

    def _add_row(self, item_id: str) -> int:
        row = self.n_rows
        if row >= len(self._blocked):
            self._blocked = _grown(self._blocked, row + 1, True)
            self._publish_ms = _grown(self._publish_ms, row + 1, 0)
            self._expire_ms = _grown(self._expire_ms, row + 1, _NEVER)
        self.prices_micros.append(0)
        self.attributes.append({})
        self._added.append(item_id)
        self._row_of_added[item_id] = row
        return row


def _grown(array: npt.NDArray[Any], size: int, fill: int) -> npt.NDArray[Any]:
    out = np.full(max(size, 2 * len(array)), fill, dtype=array.dtype)
    out[: len(array)] = array
    return out
