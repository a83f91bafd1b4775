"""The accounts' limits as the authority grants under them."""

from __future__ import annotations

from typing import NamedTuple

from headrace.authority.history import Stamp, knows, stamp_of
from headrace.authority.schema import LIFE
from headrace.ledger.budgets import accounts_since, balance_of
from headrace.ledger.journal import Query

UNBOUNDED = (1 << 63) - 1

Key = tuple[int, int]
"""A node and a budget day, or `LIFE`."""


class Limits(NamedTuple):
    """One node: its parent (-1: none), and what may be committed below it in all and a day; None: no limit."""

    parent: int
    lifetime: int | None
    daily: int | None


class Tree:
    """Limits by account number; follows the tables from one transaction to the next.

    ``stamp`` : the state of the settings that it knows.
    """

    def __init__(self) -> None:
        self.nodes: dict[int, Limits] = {}
        self._paths: dict[int, list[int]] = {}
        self.stamp = Stamp()

    def refresh(self, query: Query, stamp: Stamp | None = None) -> None:
        """Take over what changed since the last time; all, where that state is not in the database's past.

        stamp : the present state of the settings, where it has been read already.
        """
        stamp = stamp_of(query) if stamp is None else stamp
        if stamp == self.stamp:
            return
        if not knows(query, self.stamp):  # commits were lost
            self.nodes.clear()
            self.stamp = Stamp()
        for row in accounts_since(query, self.stamp.version):
            lifetime = row.settings.lifetime_micros
            if row.parent < 0:
                balance = balance_of(query, row.number)
                lifetime = balance if lifetime is None else min(lifetime, balance)
            self.nodes[row.number] = Limits(row.parent, lifetime, row.settings.daily_micros)
        self._paths.clear()
        self.stamp = stamp

    def path(self, account: int) -> list[int]:
        """The account and what is above it, from below; empty for an unknown one."""
        found = self._paths.get(account)
        if found is None:
            found = []
            node = account
            while node in self.nodes:
                found.append(node)
                node = self.nodes[node].parent
            self._paths[account] = found
        return found

    def is_leaf(self, account: int) -> bool:
        return len(self.path(account)) == 3

    def room_at(self, node: int, day: int, allotted: dict[Key, int]) -> int:
        """What may still be allotted below a node; negative after a cut.

        allotted : micros by node and day, and by node and LIFE; what is left out counts as 0.
        """
        limits = self.nodes[node]
        room = UNBOUNDED
        if limits.lifetime is not None:
            room = limits.lifetime - allotted.get((node, LIFE), 0)
        if limits.daily is not None:
            room = min(room, limits.daily - allotted.get((node, day), 0))
        return room
