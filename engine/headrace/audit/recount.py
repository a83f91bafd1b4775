"""Every balance recomputed from journal records, one record at a time, in plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from headrace.audit.layout import Kind, Record, State, ceil_micros, read_records, states_of
from headrace.audit.limits import Limits

HELD = (State.RESERVED, State.WON, State.DISPUTED)
NEXT = {
    State.RESERVED: {State.WON, State.DISPUTED, State.BILLED, State.LOST, State.EXPIRED},
    State.WON: {State.BILLED, State.DISPUTED, State.LOST},
    State.DISPUTED: {State.BILLED, State.LOST},
    State.LOST: {State.LOST_DISPUTED, State.LATE},
    State.EXPIRED: {State.LOST, State.LATE},
    State.LOST_DISPUTED: {State.LATE, State.LOST},
}
"""What a token may become; one that the journal never named may become anything that its lease's money allows."""

MAX_PROBLEMS = 100

LINE_DEPTH = 3
"""Advertiser, campaign and line item lie on a line item's path."""

_CONDENSED = (Kind.LEASE, Kind.MONEY, Kind.STATES, Kind.BASE)


@dataclass(slots=True)
class Token:
    """A reservation that holds money: `won` micros of it are spent unless it is billed otherwise."""

    cpm: int
    issued_ms: int
    exchange: int
    won: int = 0

    @property
    def reserved(self) -> int:
        return ceil_micros(self.cpm) - self.won


@dataclass(slots=True)
class LeaseBook:
    """One lease: granted = pool + reserved + won + billed + returned.

    pool : of an open lease what is not known singly, reserved or unused; of a closed one what is still reserved.
    states : one byte a serial.
    """

    account: int
    day: int
    granted: int = 0
    granted_ms: int = 0
    open: bool = False
    returned: int = 0
    billed_nanos: int = 0
    pool: int = 0
    reserved: int = 0
    won: int = 0
    states: bytearray = field(default_factory=bytearray)
    held: dict[int, Token] = field(default_factory=dict)
    claims: dict[int, int] = field(default_factory=dict)

    @property
    def billed(self) -> int:
        return ceil_micros(self.billed_nanos)

    def state(self, serial: int) -> int:
        return self.states[serial] if serial < len(self.states) else 0

    def set(self, serial: int, state: int) -> None:
        if serial >= len(self.states):
            self.states.extend(bytes(serial + 1 - len(self.states)))
        self.states[serial] = state

    def stranded(self, before_ms: int, unused: int) -> int:
        """Micros reserved since before a moment; ``unused`` of the pool is not reserved at all."""
        if self.granted_ms >= before_ms:
            return 0
        return self.pool - unused + sum(token.reserved for token in self.held.values() if token.issued_ms < before_ms)


@dataclass(slots=True)
class Amounts:
    """Micros of one line item, or of all below a node."""

    billed: int = 0
    won: int = 0
    reserved: int = 0
    lease_unused: int = 0
    late: int = 0
    disputed: int = 0
    stranded: int = 0

    def add(self, other: Amounts) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class Released:
    """What time gave back of a line item, and what was billed of it after all.

    micros, n : reservations that expired.
    late_micros, n_late : those of them that were billed later, at what they had reserved.
    billed_micros : what those bills claim.
    """

    micros: int = 0
    n: int = 0
    late_micros: int = 0
    n_late: int = 0
    billed_micros: int = 0

    def add(self, other: Released) -> None:
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Recount:
    """Balances of a ledger, from an opening snapshot or from nothing.

    parents : account number to its parent's, -1 at the top.

    Attribute ``problems`` says what cannot be in an honest journal; ``n_problems`` counts beyond the first hundred.
    """

    def __init__(self, parents: Mapping[int, int]) -> None:
        self.leases: dict[int, LeaseBook] = {}
        self.late: defaultdict[int, int] = defaultdict(int)
        self.n_late: defaultdict[int, int] = defaultdict(int)
        self.disputed: defaultdict[int, int] = defaultdict(int)
        self.released: defaultdict[int, Released] = defaultdict(Released)
        self.base: defaultdict[tuple[int, int], int] = defaultdict(int)
        self.limits = Limits(parents)
        self.known_singly = False
        self.n_records = 0
        self.n_problems = 0
        self.problems: list[str] = []
        self._condensed = False
        self._sequence = 0
        self._turns = {
            Kind.GRANT: self._grant,
            Kind.CLOSE: self._close,
            Kind.SETTLE: self._settle,
            Kind.OPEN: self._open,
            Kind.LEASE: self._lease,
            Kind.MONEY: self._money,
            Kind.STATES: self._states,
            Kind.BASE: self._base,
            Kind.LIMITS: self.limits.bind,
        }

    def open(self, blob: bytes) -> None:
        """Take a snapshot as the opening balance."""
        self._condensed = True
        self.add(0, blob)
        self._condensed = False
        self.limits.restate()

    def add(self, sequence: int, blob: bytes) -> None:
        """Take in one row of the journal."""
        self._sequence = sequence
        turns = self._turns
        try:
            for record in read_records(blob):
                turn = turns.get(record.kind)  # type: ignore[call-overload]
                if record.kind in _CONDENSED and not self._condensed:
                    self._problem(f"a record of kind {record.kind}, which only snapshots have")
                if turn is None:
                    self._problem(f"a record of kind {record.kind}, which is not known")
                    continue
                turn(record)
                self.n_records += 1
        except ValueError as error:
            self._problem(str(error))

    def adopt(self, slots: Iterable[Record]) -> None:
        """Know open reservations singly, from the reservation file (records of `Kind.OPEN`)."""
        self.known_singly = True
        for slot in slots:
            lease = self.leases.get(slot.lease)
            if lease is not None and lease.state(slot.serial) == State.ABSENT:
                self._backing(lease, slot)

    def _problem(self, text: str) -> None:
        self.n_problems += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"journal row {self._sequence}: {text}")

    # -- records

    def _grant(self, record: Record) -> None:
        if record.lease in self.leases:
            self._problem(f"lease {record.lease} is granted twice")
        if record.a < 0:
            self._problem(f"lease {record.lease} is granted {record.a}")
        if len(self.limits.path(record.account)) != LINE_DEPTH:
            self._problem(f"lease {record.lease} is granted to account {record.account}, which is no line item")
        lease = LeaseBook(record.account, record.day, record.a, record.time_ms, open=True, pool=record.a)
        self.leases[record.lease] = lease
        self.limits.commit(lease.account, lease.day, record.a)

    def _lease(self, record: Record) -> None:
        self.leases[record.lease] = LeaseBook(
            record.account, record.day, record.a, record.time_ms, open=record.state == 1, returned=record.b
        )

    def _money(self, record: Record) -> None:
        lease = self._find(record)
        lease.billed_nanos, lease.pool = record.a, record.b
        self.limits.commit(lease.account, lease.day, lease.billed + lease.pool)

    def _states(self, record: Record) -> None:
        lease = self._find(record)
        for at, state in enumerate(states_of(record)):
            if state:
                lease.set(record.serial + at, state)

    def _base(self, record: Record) -> None:
        self.base[record.account, record.day] += record.a
        self.late[record.account] += record.b
        self.disputed[record.account] += record.time_ms
        self.limits.commit(record.account, record.day, record.a)

    def _close(self, record: Record) -> None:
        lease = self._find(record)
        lease.open = False
        lease.pool -= record.a
        if lease.pool < 0 or record.a < 0:
            self._problem(f"lease {record.lease} gives back {record.a}, and holds {lease.pool + record.a}")
        self._give_back(lease, record.a)

    def _open(self, record: Record) -> None:
        lease = self._find(record)
        if lease.state(record.serial) == State.ABSENT and not self._backing(lease, record):
            self._problem(f"lease {record.lease} does not hold the money of its token {record.serial}")

    def _settle(self, record: Record) -> None:
        lease = self.leases.get(record.lease)
        if lease is None:  # one that left memory, or that nobody granted: it holds nothing
            lease = self.leases[record.lease] = LeaseBook(record.account, record.day)
        serial, to = record.serial, record.state
        if (record.account, record.day) != (lease.account, lease.day):
            self._problem(f"token {serial} of lease {record.lease} settles on another account or day than its lease's")
        before = lease.state(serial)
        if before == State.ABSENT:
            before = State.RESERVED if self._backing(lease, record) else State.EXPIRED
        elif to not in NEXT.get(before, ()) and not self._condensed:  # type: ignore[call-overload]
            self._problem(f"token {serial} of lease {record.lease} turns from {before} to {to}")
        self._turn(lease, record, before)
        lease.set(serial, to)
        if to == State.EXPIRED or (to == State.LATE and before == State.EXPIRED):
            self._count_released(record)

    def _count_released(self, record: Record) -> None:
        released, micros = self.released[record.account], ceil_micros(record.a)
        if record.state == State.EXPIRED:
            released.micros += micros
            released.n += 1
        else:
            released.late_micros += micros
            released.n_late += 1
            released.billed_micros += _claimed(record)

    # -- what they do

    def _find(self, record: Record) -> LeaseBook:
        lease = self.leases.get(record.lease)
        if lease is None:
            self._problem(f"lease {record.lease} was never granted")
            lease = self.leases[record.lease] = LeaseBook(record.account, record.day)
        return lease

    def _backing(self, lease: LeaseBook, record: Record) -> bool:
        """Whether the lease holds the money of a token that was not named before; then it is reserved."""
        micros = ceil_micros(record.a)
        if lease.pool < micros:
            return False
        lease.pool -= micros
        lease.reserved += micros
        lease.held[record.serial] = Token(record.a, record.time_ms, record.exchange)
        lease.set(record.serial, State.RESERVED)
        return True

    def _turn(self, lease: LeaseBook, record: Record, before: int) -> None:
        serial, to = record.serial, record.state
        token = lease.held.pop(serial, None)
        if token is not None:
            lease.won -= token.won
            lease.reserved -= token.reserved
            token.won = 0
        if before in (State.DISPUTED, State.LOST_DISPUTED):
            self.disputed[lease.account] -= lease.claims.pop(serial, 0)
        if token is not None and record.a != token.cpm and to not in HELD and to != State.BILLED:
            self._problem(f"token {serial} of lease {record.lease} ends as {record.a}, and reserved {token.cpm}")
        if (to in HELD or to == State.BILLED) and not self._covered(token, record):
            self._problem(f"token {serial} of lease {record.lease} becomes {to} beyond what it reserved")
        if to in HELD:
            self._hold(lease, record, token or Token(0, 0, 0))
            return
        spent = self._end(lease, record)
        if token is not None:
            self._set_free(lease, ceil_micros(token.cpm) - spent)

    def _covered(self, token: Token | None, record: Record) -> bool:
        if token is None or record.a != token.cpm:
            return False
        return self._condensed or record.state == State.DISPUTED or 0 <= record.b <= record.a

    def _hold(self, lease: LeaseBook, record: Record, token: Token) -> None:
        if record.state == State.WON:
            token.won = ceil_micros(record.b)
        elif record.state == State.DISPUTED:
            self._claim(lease, record)
        lease.held[record.serial] = token
        lease.won += token.won
        lease.reserved += token.reserved

    def _end(self, lease: LeaseBook, record: Record) -> int:
        """Micros that are spent for good."""
        if record.state == State.BILLED:
            before = lease.billed
            lease.billed_nanos += record.b
            return lease.billed - before
        if record.state == State.LATE:
            self.late[lease.account] += _claimed(record)
            self.n_late[lease.account] += 1
        elif record.state == State.LOST_DISPUTED:
            self._claim(lease, record)
        return 0

    def _claim(self, lease: LeaseBook, record: Record) -> None:
        lease.claims[record.serial] = _claimed(record)
        self.disputed[lease.account] += _claimed(record)

    def _set_free(self, lease: LeaseBook, micros: int) -> None:
        if lease.open:
            lease.pool += micros
        else:
            self._give_back(lease, micros)

    def _give_back(self, lease: LeaseBook, micros: int) -> None:
        lease.returned += micros
        self.limits.commit(lease.account, lease.day, -micros)

    # -- what comes of it

    def by_day(self, stranded_before_ms: int = 0) -> Iterator[tuple[int, int, Amounts]]:
        """Line item, budget day and amounts, lease by lease; then what leases no longer in memory were billed.

        Late and disputed amounts carry no day: they are in `late` and `disputed`, by line item.
        """
        for lease in self.leases.values():
            unused = lease.pool if lease.open and self.known_singly else 0
            yield (
                lease.account,
                lease.day,
                Amounts(
                    lease.billed,
                    lease.won,
                    lease.reserved + lease.pool - unused,
                    unused,
                    stranded=lease.stranded(stranded_before_ms, unused),
                ),
            )
        for (account, day), billed in self.base.items():
            yield account, day, Amounts(billed)

    def unbalanced(self) -> list[int]:
        """Leases where the parts are not what was granted, or less than nothing."""
        return [
            number
            for number, lease in self.leases.items()
            if lease.granted != lease.pool + lease.reserved + lease.won + lease.billed + lease.returned
            or min(lease.pool, lease.reserved, lease.won, lease.returned) < 0
        ]


def _claimed(record: Record) -> int:
    """What a claim that is not accepted amounts to: its price, or the reservation where it has none."""
    return ceil_micros(record.b if record.b >= 0 else record.a)
