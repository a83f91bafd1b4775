"""What is searched: an artifact's items, those that came or changed since, and none of those that went."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace._native import Retriever
from headrace.errors import InvalidRequestError
from headrace.types import Bool, Float32, Int8, Int32

MAX_ROW = 2**31 - 65
"""Rows are int32, and a bit each in words of 64."""

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Lists:
    """Which items an approximate search looks at.

    centres : (n_lists, d) float32. lists : (n_items,) int32, each item's centre. probes : lists that a search scans at
    least. by_factors : whether the best are scored by their float32 factors at the end, else by their 8-bit codes, for
    which nothing is read but what the index holds.
    """

    centres: Float32
    lists: Int32
    probes: int
    by_factors: bool = True


@dataclass(frozen=True, slots=True)
class Hits:
    """The best of n queries: rows (n, k) int32, -1 where there are fewer, scores (n, k) float32, 0 there, and whether
    each answer is that of an exhaustive search, exact (n,) int8."""

    rows: Int32
    scores: Float32
    exact: Int8


class LiveIndex:
    """An immutable base, what was added since, searched exactly, and tombstones.

    Any thread may search while another changes the items: a change makes a new :attr:`searcher`, and whoever holds the
    old one sees none of it. A row that was removed never comes back, in whatever part of a slate, until it is added.

    Each change copies what was added so far, some milliseconds for 10,000 items, so many are best added by one call.
    Additions are gone with the model that a newer artifact
    replaces, which was trained on them; whoever added them adds those of them that it does not know.

    base : the search over the artifact's items.
    """

    def __init__(self, base: Retriever, n_factors: int) -> None:
        self._searcher = base
        self._n_factors = n_factors
        self._lock = threading.Lock()

    @property
    def searcher(self) -> Retriever:
        """The search over the items of this moment."""
        return self._searcher

    def add(self, rows: Int32, factors: Float32) -> None:
        """Find items by these factors from now on, whether they are new, were in the base, or were removed.

        rows : (n,) int32 rows of the item table, none twice. factors : (n, d) float32, finite.

        Raises InvalidRequestError and changes nothing when an array does not fit.
        """
        rows, factors = _rows(rows), np.ascontiguousarray(factors, dtype=np.float32)
        if factors.shape != (len(rows), self._n_factors):
            raise InvalidRequestError("factors", factors.shape, f"({len(rows)}, {self._n_factors}), one row an item")
        if not np.isfinite(factors).all():
            raise InvalidRequestError("factors", "NaN or infinity", "finite numbers", "leave such items out")
        order = np.argsort(rows, kind="stable")
        if (np.diff(rows[order]) == 0).any():
            raise InvalidRequestError("rows", "a row twice", "each row once", "add the latest factors alone")
        with self._lock:
            self._searcher = self._searcher.with_items(rows[order], factors[order])

    def remove(self, rows: Int32) -> None:
        """Find and show these items no longer; rows that nobody knows are none. Raises InvalidRequestError."""
        rows = _rows(rows)
        with self._lock:
            self._searcher = self._searcher.without_items(rows)

    def search(self, vectors: Float32, k: int, allowed: Words | None = None) -> Hits:
        """The k best items of each query by the product of factors, as many as there are.

        vectors : (n, d or more) float32. allowed : a :func:`bitmap` of the only rows wanted, None: all.
        """
        return search(self._searcher, vectors, k, allowed)


def make_searcher(factors: Float32, lists: Lists | None = None) -> Retriever:
    """The search over item factors, (n_items, d) float32, alone; exact without lists. It keeps the factors."""
    n_items = len(factors)
    order, popularity = np.arange(n_items, dtype=np.int32), np.zeros(n_items, dtype=np.float32)
    return Retriever(factors, order, popularity, 0.0, 1.0, lists=None if lists is None else native_lists(lists))


def native_lists(lists: Lists) -> tuple[Float32, Int32, int, bool]:
    """As the extension takes them."""
    return np.asarray(lists.centres), np.asarray(lists.lists), lists.probes, lists.by_factors


def search(searcher: Retriever, vectors: Float32, k: int, allowed: Words | None = None, *, probes: int = 0) -> Hits:
    """As :meth:`LiveIndex.search`; ``probes`` other than 0 takes the place of the lists' own."""
    n = len(vectors)
    hits = Hits(np.empty((n, k), np.int32), np.empty((n, k), np.float32), np.empty(n, np.int8))
    searcher.search(vectors, allowed, hits.rows, hits.scores, hits.exact, probes)
    return hits


def bitmap(mask: Bool) -> Words:
    """A bit a row, in the words that searches take."""
    packed = np.packbits(mask, bitorder="little")
    return np.pad(packed, (0, -len(packed) % 8)).view("<u8").astype(np.uint64, copy=False)


def _rows(rows: Int32) -> Int32:
    found = np.asarray(rows)
    if found.ndim != 1 or (len(found) and (found.dtype.kind not in "iu" or found.min() < 0 or found.max() > MAX_ROW)):
        raise InvalidRequestError("rows", found, f"a column of whole numbers from 0 to {MAX_ROW}")
    return np.ascontiguousarray(found, dtype=np.int32)
