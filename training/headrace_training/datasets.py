"""Interactions read from files: adjacency lines, or tables with a user and an item column."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.errors import DataError
from headrace.types import Float64, Int32, Int64
from headrace_training.tables import Table, read_words, table_suffix
from headrace_training.values import TimeParser, first_bad, number_column, text_column

NAMES = {
    "user": ("user", "user_id"),
    "item": ("item", "item_id"),
    "time": ("time", "timestamp"),
    "weight": ("weight",),
}


class Encoder:
    """Gives each id the next index at its first appearance."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}

    def encode(self, names: Iterable[str]) -> Int32:
        """Indices of the ids, new ones added; int32."""
        index = self.index
        return np.array([index.setdefault(name, len(index)) for name in names], dtype=np.int32)

    @property
    def ids(self) -> list[str]:
        return list(self.index)


@dataclass(frozen=True)
class Pairs:
    """(user, item) pairs as a file gives them, repeats included.

    user_ids, item_ids : ids by index, in order of first appearance; users without a pair are among them.
    users, items : (n,) int32.   weights : (n,) float64, > 0.   times_ms : (n,) int64, None without times.
    """

    user_ids: list[str]
    item_ids: list[str]
    users: Int32
    items: Int32
    weights: Float64
    times_ms: Int64 | None = None

    def matrix(self) -> sp.csr_matrix:
        """Weights summed over repeats; (n_users, n_items) float32 with sorted indices."""
        shape = (len(self.user_ids), len(self.item_ids))
        matrix = sp.csr_matrix((self.weights.astype(np.float32), (self.users, self.items)), shape=shape)
        matrix.sum_duplicates()
        return matrix


def read_pairs(path: Path) -> Pairs:
    """Read interactions; DataError naming file and line for anything that is none."""
    pairs = _read_table(path) if table_suffix(path) else _read_adjacency(path)
    if not len(pairs.users):
        raise DataError(
            f"{path} holds no (user, item) pair",
            hint="adjacency lines are 'user item item …'; a table must be named .csv, .tsv or .parquet",
        )
    return pairs


def _read_adjacency(path: Path) -> Pairs:
    user_index, item_index = Encoder(), Encoder()
    users, items = array("i"), array("i")
    for _, names in read_words(path):
        user = user_index.index.setdefault(names[0], len(user_index.index))
        items.extend(item_index.encode(names[1:]).tolist())
        users.extend([user] * (len(names) - 1))
    n = len(users)
    return Pairs(user_index.ids, item_index.ids, np.array(users, np.int32), np.array(items, np.int32), np.ones(n))


def _read_table(path: Path) -> Pairs:
    table = Table.open(path)
    columns = {role: _find(table, role, names) for role, names in NAMES.items()}
    user_index, item_index = Encoder(), Encoder()
    users, items, weights, times = [], [], [], []
    for numbers, batch in table.batches([name for name in columns.values() if name]):
        if table.malformed:
            number, reason = table.malformed[0]
            raise DataError(f"{path}, row {number}: {reason}", hint="quote values that hold the separator")
        users.append(user_index.encode(_ids(path, numbers, batch.column(columns["user"]), "user")))
        items.append(item_index.encode(_ids(path, numbers, batch.column(columns["item"]), "item")))
        weights.append(_weights(path, numbers, batch, columns["weight"]))
        if columns["time"]:
            times.append(_times(path, numbers, batch.column(columns["time"])))
    if table.malformed:
        number, reason = table.malformed[0]
        raise DataError(f"{path}, row {number}: {reason}", hint="quote values that hold the separator")
    return Pairs(
        user_index.ids,
        item_index.ids,
        _join(users, np.int32),
        _join(items, np.int32),
        _join(weights, np.float64),
        _join(times, np.int64) if columns["time"] else None,
    )


def _find(table: Table, role: str, names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in table.columns), "")
    if not found and role in ("user", "item"):
        near = difflib.get_close_matches(names[-1], table.columns, n=1, cutoff=0.0)
        raise DataError(
            f"{table.path}: {role} column",
            got=", ".join(table.columns),
            expected=f"a column named {' or '.join(names)}",
            hint=f"rename {near[0]!r} if it is the one" if near else "",
        )
    return found


def _ids(path: Path, numbers: Sequence[int], column: Any, role: str) -> list[str]:
    ids = text_column(column)
    if None in ids:
        raise DataError(
            f"{path}, row {numbers[ids.index(None)]}: the {role} id is empty", hint="drop or complete the row"
        )
    return [name for name in ids if name is not None]


def _weights(path: Path, numbers: Sequence[int], batch: Any, name: str) -> Float64:
    if not name:
        return np.ones(batch.num_rows)
    weights, bad = number_column(batch.column(name), default=1.0)
    row = first_bad(bad | (weights <= 0), numbers)
    if row is not None:
        got = batch.column(name)[list(numbers).index(row)].as_py()
        raise DataError(
            f"{path}, row {row}: {name}", got=got, expected="a finite number above 0", hint="correct the row"
        )
    return weights


def _times(path: Path, numbers: Sequence[int], column: Any) -> Int64:
    times, bad = TimeParser().parse(column)
    row = first_bad(bad, numbers)
    if row is not None:
        got = column[list(numbers).index(row)].as_py()
        raise DataError(
            f"{path}, row {row}: time", got=got, expected="ISO 8601, or s or ms since 1970", hint="correct the row"
        )
    return times


def _join(parts: list[Any], dtype: Any) -> Any:
    return np.concatenate(parts) if parts else np.empty(0, dtype)
