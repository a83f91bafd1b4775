"""What is committed of each budget, and whether it was ever more than the budget in force."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.audit.layout import Record

UNBOUND = 2**63
"""In force where there is no limit."""


@dataclass(slots=True)
class Bound:
    """One budget, of a life or of a day: a cut lowers what is in force no further than what was committed.

    highest : that the limit ever was.
    """

    limit: int = UNBOUND
    in_force: int = UNBOUND
    committed: int = 0
    over: int = 0
    highest: int = 0

    def set(self, limit: int) -> None:
        self.highest = max(self.highest, limit)
        self.in_force = max(limit, min(self.in_force, self.committed))
        self.limit = limit

    def restate(self) -> None:
        """What is committed beyond the limit was so before anybody looked."""
        self.in_force, self.over = max(self.limit, self.committed), 0

    def move(self, micros: int) -> None:
        self.committed += micros
        if micros > 0:
            self.over = max(self.over, self.committed - self.in_force)
        elif self.in_force > self.limit:
            self.in_force = max(self.limit, min(self.in_force, self.committed))


class Limits:
    """The bounds of every node, moved along its path.

    parents : account number to its parent's, -1 at the top.

    Attribute ``said`` : the accounts whose limits were said.
    """

    def __init__(self, parents: Mapping[int, int]) -> None:
        self._parents = parents
        self._paths: dict[int, tuple[int, ...]] = {}
        self._daily: dict[int, int] = {}
        self.life: defaultdict[int, Bound] = defaultdict(Bound)
        self.days: defaultdict[int, dict[int, Bound]] = defaultdict(dict)
        self.said: set[int] = set()

    def path(self, account: int) -> tuple[int, ...]:
        """The account and all above it."""
        found = self._paths.get(account)
        if found is None:
            nodes = [account]
            while (parent := self._parents.get(nodes[-1], -1)) >= 0:
                nodes.append(parent)
            found = self._paths[account] = tuple(nodes)
        return found

    def bind(self, record: Record) -> None:
        """A record of `Kind.LIMITS`: what binds an account from here on."""
        account = record.account
        self.said.add(account)
        self.life[account].set(record.a if record.a >= 0 else UNBOUND)
        daily = self._daily[account] = record.b if record.b >= 0 else UNBOUND
        for bound in self.days[account].values():
            bound.set(daily)

    def commit(self, leaf: int, day: int, micros: int) -> None:
        """Move what is committed of a line item and of all above it."""
        for node in self.path(leaf):
            self.life[node].move(micros)
            days = self.days[node]
            bound = days.get(day)
            if bound is None:
                daily = self._daily.get(node, UNBOUND)
                bound = days[day] = Bound(daily, daily, highest=daily)
            bound.move(micros)

    def restate(self) -> None:
        """Take what is committed for the opening balance."""
        for bound in self.life.values():
            bound.restate()
        for account, days in self.days.items():
            for bound in days.values():
                bound.limit = self._daily.get(account, UNBOUND)
                bound.restate()

    def over(self, account: int) -> int:
        """The most by which more was committed than was in force, of its life or of any of its days; micros."""
        return max([self.life[account].over, *(bound.over for bound in self.days[account].values())])
