"""The numbers by which the journal names exchanges: each name its own, for good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from headrace.ledger.journal import Query, query_of
from headrace.ledger.sql import Sql
from headrace.ledger.tokens import exchange_hash, exchange_tag
from headrace.types import UInt16, UInt64

LAST_NUMBER = 32767
"""Records have 16 bits for an exchange, and the engine takes one of them."""

MAX_EXCHANGES = 4096
"""Names that are numbered, at most, since whoever asks for bids chooses the name; later ones have number 0."""


def read_numbers(query: Query) -> dict[str, int]:
    """Numbers of all exchanges that a ledger has reserved for, by name; none in a store of an older version."""
    if not query("SELECT 1 FROM sqlite_master WHERE name = 'ledger_exchanges'", ()):
        return {}
    return {str(name): int(number) for name, number in query("SELECT name, number FROM ledger_exchanges", ())}


def number_exchanges(connection: Sql, names: Iterable[str]) -> dict[str, int]:
    """Give names that have none a number of their own, 1 to 32767; all that there are then, by name.

    It is the name's `exchange_tag`, as in journals from before there were numbers, or the next that is free.
    """
    numbers = read_numbers(query_of(connection))
    taken = set(numbers.values())
    for name in names:
        if name in numbers or len(numbers) >= MAX_EXCHANGES:
            continue
        number = _tag(name)
        while number in taken:
            number = number % LAST_NUMBER + 1
        connection.execute("INSERT INTO ledger_exchanges(number, name) VALUES (?, ?)", (number, name))
        taken.add(number)
        numbers[name] = number
    return numbers


def number_of(numbers: Mapping[str, int], name: str) -> int:
    """The number of a name; of one without: its tag, or -1 where that is another's, which no record holds."""
    tag = _tag(name)
    return numbers.get(name, -1 if tag in numbers.values() else tag)


class Exchanges:
    """Numbers by name, and by the hash that tokens carry."""

    def __init__(self, numbers: dict[str, int]) -> None:
        self.numbers = numbers
        hashes = np.array([exchange_hash(name) for name in numbers], np.uint64)
        order = np.argsort(hashes)
        self._hashes = hashes[order]
        self._of_hash = np.array(list(numbers.values()), np.uint16)[order]

    @property
    def full(self) -> bool:
        """Whether no more names are numbered."""
        return len(self.numbers) >= MAX_EXCHANGES

    def tags(self, hashes: UInt64) -> UInt16:
        """Numbers of exchanges by the hash of their names, (n,); of one that is not known its tag, 0 where another has
        that as its number."""
        tags = exchange_tag(hashes)
        if not len(self._hashes):
            return tags
        at = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        known = self._hashes[at] == hashes
        if known.all():
            return self._of_hash[at]
        return np.where(known, self._of_hash[at], np.where(np.isin(tags, self._of_hash), 0, tags)).astype(np.uint16)


def _tag(name: str) -> int:
    return int(exchange_tag(np.array([exchange_hash(name)], np.uint64))[0])
