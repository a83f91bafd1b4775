"""Logs of actions taken with known probabilities, and policies that would have taken others, read from tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace.types import Float64, Int32
from headrace_training.datasets import Encoder
from headrace_training.tables import Table
from headrace_training.values import first_bad, number_column, text_column

ITEM = ("item_id", "item", "action")
REWARD = ("click", "reward")
PROPENSITY = ("propensity_score", "propensity")
POSITION = ("position",)
PROBABILITY = ("probability",)
ROW = ("row",)

MAX_LEVELS = 100
"""Values of a context column that get a weight of their own, the most frequent ones."""

SUM_TOLERANCE = 1e-4
"""How far the probabilities of a policy may be from a sum of 1, for files with few digits."""


@dataclass(frozen=True)
class BanditLog:
    """What was shown, with which probability, and what came of it.

    actions  : ids of all items that could be shown; the logged ones first, in order of first appearance.
    action   : (n,) int32.   reward : (n,) float64.   propensity : (n,) float64 in (0, 1].
    position : (n,) int32 index of positions, all 0 without such a column.
    context  : (n, m) CSR float64, positions and context columns as features.
    """

    actions: list[str]
    n_logged: int
    action: Int32
    reward: Float64
    propensity: Float64
    positions: list[str]
    position: Int32
    context: sp.csr_matrix

    def __len__(self) -> int:
        return len(self.action)


@dataclass(frozen=True)
class Policy:
    """Probabilities of all actions for groups of rows.

    name : as a report calls it.   table : (n_groups, n_actions) float64, rows summing to 1.
    group : (n,) int32, the group of each row of a log.
    """

    name: str
    table: Float64
    group: Int32

    def of_logged(self, log: BanditLog) -> Float64:
        """How likely the policy takes what was logged; (n,) float64."""
        return np.asarray(self.table[self.group, log.action])


def read_log(path: Path, context: Sequence[str] = (), catalogue: Path | None = None) -> BanditLog:
    """Read a table with the columns ITEM, REWARD, PROPENSITY and, optionally, POSITION.

    context   : names of further columns for the reward model, with ``*`` for any letters.
    catalogue : a table whose items could have been shown too; only logged ones without it.
    Raises DataError naming the row of a propensity outside (0, 1], an empty item or a reward that is no number.
    """
    table = Table.open(path)
    item, reward, propensity = (_column(table, names) for names in (ITEM, REWARD, PROPENSITY))
    position = next((name for name in POSITION if name in table.columns), "")
    extra = _context_columns(table, context)
    items, places = Encoder(), Encoder()
    parts: list[list[Any]] = [[], [], [], []]
    texts: dict[str, list[str]] = {name: [] for name in extra}
    for numbers, batch in _batches(table, [item, reward, propensity, *([position] if position else []), *extra]):
        named = _Rows(path, numbers, batch)
        parts[0].append(items.encode(named.ids(item)))
        parts[1].append(named.values(reward, "a finite number", np.isfinite))
        parts[2].append(named.values(propensity, "a probability above 0 and at most 1", lambda p: (p > 0) & (p <= 1)))
        parts[3].append(places.encode(named.ids(position) if position else [""] * len(numbers)))
        for name in extra:
            texts[name] += [value or "" for value in text_column(batch.column(name))]
    if len(parts[0]) == 0 or sum(map(len, parts[0])) < 2:
        raise DataError(f"{path} has fewer than two rows", hint="an interval needs more of them")
    action, rewards, propensities, positions = (np.concatenate(part) for part in parts)
    n_logged = len(items.index)
    if catalogue is not None:
        items.encode(read_items(catalogue))
    features = [_one_hot(positions), *(_features(texts[name]) for name in extra)]
    return BanditLog(
        items.ids, n_logged, action, rewards, propensities, places.ids, positions, sp.hstack(features).tocsr()
    )


def read_items(path: Path) -> list[str]:
    """The item column of a table."""
    table = Table.open(path)
    item = _column(table, ITEM)
    return [name for numbers, batch in _batches(table, [item]) for name in _Rows(path, numbers, batch).ids(item)]


def uniform(log: BanditLog) -> Policy:
    """Every action alike."""
    n_actions = len(log.actions)
    return Policy("uniform", np.full((1, n_actions), 1.0 / n_actions), np.zeros(len(log), dtype=np.int32))


def read_policy(path: Path, log: BanditLog) -> Policy:
    """A table of item and probability, the same for all rows, or by ``position``, or by ``row`` of the log from 1.

    Raises DataError for a probability outside [0, 1], a pair that is there twice, an item that the log and its
    catalogue do not have, a position or row without probabilities, and probabilities that do not sum to 1.
    """
    table = Table.open(path)
    item, probability = _column(table, ITEM), _column(table, PROBABILITY)
    by = next((name for name in (*ROW, *POSITION) if name in table.columns), "")
    names, group = _groups(log, by)
    known = ({name: at for at, name in enumerate(names)}, {name: at for at, name in enumerate(log.actions)})
    found = np.full((len(names), len(log.actions)), np.nan)
    for numbers, batch in _batches(table, [item, probability, *([by] if by else [])]):
        rows = _Rows(path, numbers, batch)
        values = rows.values(probability, "a probability from 0 to 1", lambda p: (p >= 0) & (p <= 1))
        of_group = rows.indices(by, known[0]) if by else np.zeros(len(values), dtype=np.int64)
        of_item = rows.indices(item, known[1])
        pairs = of_group * len(log.actions) + of_item
        again = ~np.isnan(found[of_group, of_item])
        again[np.setdiff1d(np.arange(len(pairs)), np.unique(pairs, return_index=True)[1])] = True
        rows.refuse(again, item, "each item once")
        found[of_group, of_item] = values
    sums = np.nansum(found, axis=1)
    off = np.abs(sums - 1) > SUM_TOLERANCE
    if off.any():
        where = f"{by} {names[int(off.argmax())]}: " if by else ""
        raise DataError(
            f"{path}: {where}sum of probabilities", got=float(sums[off.argmax()]), expected="1 over all items"
        )
    return Policy(path.name, np.nan_to_num(found) / sums[:, None], group)


def _groups(log: BanditLog, by: str) -> tuple[list[str], Int32]:
    if by in POSITION:
        return log.positions, log.position
    if by in ROW:
        return [str(number) for number in range(1, len(log) + 1)], np.arange(len(log), dtype=np.int32)
    return [""], np.zeros(len(log), dtype=np.int32)


def _batches(table: Table, columns: list[str]) -> Iterator[tuple[Sequence[int], Any]]:
    for numbers, batch in table.batches(columns):
        _refuse_malformed(table)
        yield numbers, batch
    _refuse_malformed(table)


def _refuse_malformed(table: Table) -> None:
    if table.malformed:
        number, reason = table.malformed[0]
        raise DataError(f"{table.path}, row {number}: {reason}", hint="quote values that hold the separator")


@dataclass(frozen=True)
class _Rows:
    """A batch of a file, whose rows have numbers."""

    path: Path
    numbers: Sequence[int]
    batch: Any

    def ids(self, name: str) -> list[str]:
        found = text_column(self.batch.column(name))
        self.refuse(np.array([value is None for value in found], dtype=bool), name, "an id")
        return [value for value in found if value is not None]

    def values(self, name: str, expected: str, sound: Callable[[Float64], Any]) -> Float64:
        found, _ = number_column(self.batch.column(name), default=np.nan)
        self.refuse(~(np.isfinite(found) & sound(found)), name, expected)
        return found

    def indices(self, name: str, index: dict[str, int]) -> Any:
        found = np.array([index.get(value, -1) for value in self.ids(name)], dtype=np.int64)
        self.refuse(found < 0, name, "one that the log has, or its catalogue")
        return found

    def refuse(self, bad: Any, name: str, expected: str) -> None:
        number = first_bad(bad, self.numbers)
        if number is not None:
            got = self.batch.column(name)[int(bad.argmax())].as_py()
            raise DataError(f"{self.path}, row {number}: {name}", got=got, expected=expected, hint="correct the row")


def _column(table: Table, names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in table.columns), "")
    if not found:
        table.require(names[:1], hint=f"name it {' or '.join(names)}")
    table.require([found], hint="")
    return found


def _context_columns(table: Table, patterns: Sequence[str]) -> list[str]:
    found: list[str] = []
    for pattern in patterns:
        names = fnmatch.filter(table.columns, pattern)
        if not names:
            raise ConfigError("--context", got=pattern, expected=f"columns of {table.path}: {', '.join(table.columns)}")
        found += names
    return list(dict.fromkeys(found))


def _features(texts: list[str]) -> sp.csr_matrix:
    """Numbers as they are, scaled to mean 0 and spread 1; anything else one column a value."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        return _one_hot(Encoder().encode(texts))
    spread = numbers.std()
    if not np.isfinite(spread) or spread == 0:
        return sp.csr_matrix((len(texts), 0))
    return sp.csr_matrix(((numbers - numbers.mean()) / spread)[:, None])


def _one_hot(codes: Int32) -> sp.csr_matrix:
    counts = np.bincount(codes)
    column = np.full(len(counts), -1)
    kept = np.argsort(-counts, kind="stable")[:MAX_LEVELS]
    column[kept] = np.arange(len(kept))
    rows = np.flatnonzero(column[codes] >= 0)
    return sp.csr_matrix((np.ones(len(rows)), (rows, column[codes[rows]])), shape=(len(codes), len(kept)))
