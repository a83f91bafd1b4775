"""Sequences of items in time order, and the three kinds of text lines that hold them."""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from headrace.errors import DataError
from headrace.types import Int32, Int64
from headrace_training.datasets import Encoder
from headrace_training.tables import read_words


@dataclass(frozen=True)
class Sequences:
    """Rows of items in time order; a row is a session or a person, and may be empty.

    item_ids : ids by index; indices in ``items`` are below its length.
    indptr   : (n + 1,) int64, row i is items[indptr[i]:indptr[i + 1]].   items : int32, oldest first.
    """

    item_ids: list[str]
    indptr: Int64
    items: Int32

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def lengths(self) -> Int64:
        """(n,) int64."""
        return np.diff(self.indptr)

    def part(self, start: int, stop: int) -> Sequences:
        """Rows start to stop - 1."""
        first, last = self.indptr[start], self.indptr[stop]
        return Sequences(self.item_ids, self.indptr[start : stop + 1] - first, self.items[first:last])

    def take(self, rows: Int64) -> Sequences:
        """The given rows, in that order."""
        lengths = self.lengths[rows]
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return Sequences(self.item_ids, indptr, self.items[_spread(self.indptr[rows], lengths)])

    def without_last(self, n: int) -> Sequences:
        """Every row without its last n items; shorter rows become empty."""
        lengths = np.maximum(self.lengths - n, 0)
        indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return Sequences(self.item_ids, indptr, self.items[_spread(self.indptr[:-1], lengths)])

    def digest(self) -> str:
        """SHA-256 of the rows, by the indices of their items."""
        return hashlib.sha256(self.indptr.tobytes() + self.items.tobytes()).hexdigest()

    def matrix(self) -> sp.csr_matrix:
        """How often each row holds each item; (n, n_items) float32."""
        ones = np.ones(len(self.items), dtype=np.float32)
        matrix = sp.csr_matrix((ones, self.items.copy(), self.indptr.copy()), shape=(len(self), self.n_items))
        matrix.sum_duplicates()
        return matrix


@dataclass(frozen=True)
class Questions:
    """Prefixes and the item that came next, -1 where the catalogue does not have it.

    prefixes : (n) rows, items outside the catalogue left out.   targets : (n,) int32.
    unseen_items : distinct targets outside the catalogue.   unseen_prefix_items : prefix places left out.
    texts : n lines as the file has them, words parted by one blank; empty where no file was read.
    """

    prefixes: Sequences
    targets: Int32
    unseen_items: int = 0
    unseen_prefix_items: int = 0
    texts: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)


def sample_questions(rows: Sequences, n: int, rng: np.random.Generator) -> Questions:
    """At most n of the places of the rows that have one before them, each with all that precedes it in its row."""
    places = np.maximum(rows.lengths - 1, 0)
    total = int(places.sum())
    chosen = np.arange(total) if total <= n else np.sort(rng.choice(total, n, replace=False))
    row = np.searchsorted(np.cumsum(places), chosen, side="right")
    lengths = chosen - (np.cumsum(places) - places)[row] + 1
    starts = rows.indptr[row]
    indptr = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
    prefixes = Sequences(rows.item_ids, indptr, rows.items[_spread(starts, lengths)])
    return Questions(prefixes, rows.items[starts + lengths])


def _spread(starts: Int64, lengths: Int64) -> Int64:
    """starts[0], starts[0] + 1, … for lengths[0] numbers, then those from starts[1], …"""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(int(lengths.sum()))


def read_sessions(path: Path) -> Sequences:
    """A session a line, ``item item …``; DataError for a file without items, or one that is no text."""
    encoder, rows = Encoder(), _Rows()
    for _, names in read_words(path):
        rows.add(encoder.encode(names).tolist())
    return rows.sequences(encoder.ids, path, "a line is one session: 'item item …'")


def read_people(path: Path) -> tuple[list[str], Sequences]:
    """A person a line, ``user item item …``; further lines of a person continue the first.

    Returns user ids and rows in order of first appearance, people without items left out. DataError as above.
    """
    encoder, people = Encoder(), dict[str, list[int]]()
    for _, (user, *names) in read_words(path):
        people.setdefault(user, []).extend(encoder.encode(names).tolist())
    rows = _Rows()
    found = {user: items for user, items in people.items() if items}
    for items in found.values():
        rows.add(items)
    return list(found), rows.sequences(encoder.ids, path, "a line is one person: 'user item item …'")


def read_questions(path: Path, item_ids: list[str]) -> Questions:
    """A prefix and what came next a line, ``item item … | item``; an empty prefix is allowed.

    Raises DataError naming the line where ``|`` is missing, stands twice or is not followed by exactly one item.
    """
    index = {name: place for place, name in enumerate(item_ids)}
    rows, targets, texts = _Rows(), array("i"), list[str]()
    unseen, skipped = set[str](), 0
    for number, names in read_words(path):
        if names.count("|") != 1 or names[-2:-1] != ["|"]:
            got = " ".join(names)
            raise DataError(f"{path}, line {number}", got=got, expected="'item item … | item'", hint="correct the line")
        texts.append(" ".join(names))
        known = [index[name] for name in names[:-2] if name in index]
        skipped += len(names) - 2 - len(known)
        rows.add(known)
        targets.append(index.get(names[-1], -1))
        if names[-1] not in index:
            unseen.add(names[-1])
    if not len(targets):
        raise DataError(f"{path} holds no line to measure on", hint="a line is 'item item … | item'")
    return Questions(rows.finished(item_ids), np.array(targets, dtype=np.int32), len(unseen), skipped, tuple(texts))


class _Rows:
    """Sequences being read."""

    def __init__(self) -> None:
        self.ends, self.items = array("q", [0]), array("i")

    def add(self, items: list[int]) -> None:
        self.items.extend(items)
        self.ends.append(len(self.items))

    def finished(self, item_ids: list[str]) -> Sequences:
        return Sequences(item_ids, np.array(self.ends, dtype=np.int64), np.array(self.items, dtype=np.int32))

    def sequences(self, item_ids: list[str], path: Path, hint: str) -> Sequences:
        if not self.items:
            raise DataError(f"{path} holds no items", hint=hint)
        return self.finished(item_ids)
