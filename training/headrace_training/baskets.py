"""Baskets: what each person took at each visit, read from the pair of JSON files that next-basket data comes in."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.errors import DataError
from headrace.types import Bool, Int32, Int64
from headrace_training.tables import open_bytes

SENTINEL = "-1"
"""Marks the beginning and the end of a person's baskets; it is no item."""

FORM = 'one object {"person": [[item, …], …], …}'


@dataclass(frozen=True)
class Baskets:
    """Baskets of people in time order, none of them empty; an item is at most once in a basket.

    user_ids, item_ids : ids by index, in order of first appearance; people without a basket are among them.
    basket_indptr : (n_users + 1,) int64, the baskets of each person.
    item_indptr : (n_baskets + 1,) int64, the items of each basket.   items : int32.
    """

    user_ids: list[str]
    item_ids: list[str]
    basket_indptr: Int64
    item_indptr: Int64
    items: Int32

    @property
    def n_users(self) -> int:
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        return len(self.item_ids)

    @property
    def n_baskets(self) -> Int64:
        """How many baskets each person has; (n_users,) int64."""
        return np.diff(self.basket_indptr)

    @property
    def basket_of(self) -> Int64:
        """The basket of each entry of ``items``; int64."""
        return np.repeat(np.arange(len(self.item_indptr) - 1), np.diff(self.item_indptr))

    @property
    def user_of(self) -> Int64:
        """The person of each entry of ``items``; int64."""
        return np.repeat(np.arange(self.n_users), self.n_baskets)[self.basket_of]

    @property
    def age(self) -> Int64:
        """How many baskets later than that of each entry of ``items`` its person has; 0 in the latest; int64."""
        return self.basket_indptr[1:][self.user_of] - 1 - self.basket_of

    def counts(self) -> sp.csr_matrix:
        """How many baskets of each person hold each item; (n_users, n_items) float32, sorted indices."""
        ones = np.ones(len(self.items), dtype=np.float32)
        return sp.csr_matrix((ones, (self.user_of, self.items)), shape=(self.n_users, self.n_items))

    def part(self, keep: Bool) -> Baskets:
        """The baskets that ``keep`` (n_baskets in all,) names, of the same people and items."""
        entries = np.repeat(keep, np.diff(self.item_indptr))
        indptr = np.concatenate([[0], np.cumsum(keep)])[self.basket_indptr]
        sizes = np.diff(self.item_indptr)[keep]
        ends = np.concatenate([[0], np.cumsum(sizes)])
        return Baskets(self.user_ids, self.item_ids, indptr, ends, self.items[entries])

    def split_last(self) -> tuple[Baskets, Baskets]:
        """Without the latest basket of everybody who has two or more, and those latest baskets."""
        latest = np.zeros(len(self.item_indptr) - 1, dtype=bool)
        latest[self.basket_indptr[1:][self.n_baskets >= 2] - 1] = True
        return self.part(~latest), self.part(latest)

    def split_first(self) -> tuple[Baskets, int]:
        """The first basket of everybody, and how many there are beside."""
        first = np.zeros(len(self.item_indptr) - 1, dtype=bool)
        first[self.basket_indptr[:-1][self.n_baskets > 0]] = True
        return self.part(first), int((~first).sum())


def read_baskets(path: Path) -> Baskets:
    """Read ``{"person": [[item, …], …]}``, in time order; sentinels and empty baskets are passed over.

    Items are text or whole numbers; one that a basket holds several times counts once.
    Raises DataError naming the file and the line, or the person and the basket.
    """
    people = _parse(path)
    users: dict[str, list[list[str]]] = {}
    for user, baskets in people:
        if user in users:
            raise DataError(f"{path}: person {user!r} is there twice", hint="put all baskets of a person together")
        users[user] = _baskets(f"{path}: person {user!r}", baskets)
    index: dict[str, int] = {}
    items = [index.setdefault(item, len(index)) for baskets in users.values() for basket in baskets for item in basket]
    if not items:
        raise DataError(f"{path} holds no basket", hint=f"expected {FORM}; {SENTINEL} is no item")
    sizes = [len(basket) for baskets in users.values() for basket in baskets]
    return Baskets(
        list(users),
        list(index),
        _ends([len(baskets) for baskets in users.values()]),
        _ends(sizes),
        np.array(items, dtype=np.int32),
    )


def _parse(path: Path) -> list[tuple[str, Any]]:
    with open_bytes(path) as handle:
        try:
            text = handle.read().decode("utf-8-sig")
            # pairs keep the order, and a name that is there twice
            found = json.loads(text, object_pairs_hook=_Object)
        except json.JSONDecodeError as error:
            where = f"{path}, line {error.lineno}, column {error.colno}"
            raise DataError(f"{where}: {error.msg}", hint=f"expected {FORM}") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: {error}", hint="save the file as UTF-8") from error
        except RecursionError as error:
            raise DataError(f"{path}: brackets within brackets without end", hint=f"expected {FORM}") from error
        except (OSError, EOFError) as error:
            raise DataError(f"{path}: {error}", hint="the file is damaged; get it again") from error
    if not isinstance(found, _Object):
        raise DataError(f"{path}", got=found, expected=FORM)
    return found


class _Object(list[tuple[str, Any]]):
    """A JSON object as pairs."""


def _baskets(where: str, baskets: Any) -> list[list[str]]:
    if isinstance(baskets, _Object) or not isinstance(baskets, list):
        raise DataError(where, got=baskets, expected="a list of baskets")
    found = (_basket(f"{where}, basket {number}", basket) for number, basket in enumerate(baskets, start=1))
    return [basket for basket in found if basket]


def _basket(where: str, basket: Any) -> list[str]:
    if isinstance(basket, _Object) or not isinstance(basket, list):
        raise DataError(where, got=basket, expected="a list of items")
    for item in basket:
        if isinstance(item, bool) or not isinstance(item, int | str) or item == "":
            raise DataError(where, got=item, expected="items that are text or whole numbers")
    return [item for item in dict.fromkeys(map(str, basket)) if item != SENTINEL]


def _ends(lengths: list[int]) -> Int64:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
