"""The audit: recount the journal, follow its chain, and compare with what the ledger says of itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from headrace.audit.layout import ALL_DAYS, RECORD, Kind
from headrace.audit.recount import MAX_PROBLEMS, Amounts, Recount
from headrace.audit.trail import Account, Row, Snapshot, Trail, digest_after


@dataclass(slots=True)
class Audit:
    """What an audit found.

    opening_sequence : the snapshot that the recount began with; 0: the beginning of the journal.
    first_time_ms, last_time_ms : of the rows that were recounted; 0 where there are none.
    digest : of the chain at ``sequence``, hexadecimal; empty in a journal of an older version.
    differences : what does not agree, in words; none: all does. The first hundred of ``n_differences``.
    notes : what could not be looked at.
    """

    recount: Recount
    accounts: list[Account]
    opening_sequence: int = 0
    sequence: int = 0
    n_rows: int = 0
    n_snapshots: int = 0
    first_time_ms: int = 0
    last_time_ms: int = 0
    digest: str = ""
    differences: list[str] = field(default_factory=list)
    n_differences: int = 0
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.n_differences += 1
        if len(self.differences) < MAX_PROBLEMS:
            self.differences.append(text)


def audit(trail: Trail, anchors: Mapping[int, str] | None = None) -> Audit:
    """Recount a whole trail.

    anchors : digests, hexadecimal, that were said of rows before, by sequence.
    """
    accounts = trail.accounts()
    found = Audit(Recount({account.number: account.parent for account in accounts}), accounts)
    first, snapshots = trail.first_row(), trail.snapshots()
    if first != 1 and snapshots:
        opening = snapshots.pop(0)
        found.opening_sequence = found.sequence = opening.sequence
        found.recount.open(opening.records)
    elif first > 1:
        found.note(f"rows before {first} are gone, and no snapshot stands for them")
    _follow(trail, snapshots, found, dict(anchors or {}))
    for number in found.recount.unbalanced():
        found.note(f"lease {number}: its parts are not what was granted")
    for text in found.recount.problems:
        found.note(text)
    found.n_differences += found.recount.n_problems - len(found.recount.problems)
    return found


def _follow(trail: Trail, snapshots: list[Snapshot], found: Audit, anchors: dict[int, str]) -> None:
    due = {snapshot.sequence: snapshot for snapshot in snapshots}
    _compare_snapshot(found, due.pop(found.sequence, None))
    digest, whole = trail.digest_before(found.sequence + 1), trail.first_row() == 1
    _hold(found, anchors, digest)
    for row in trail.rows(found.sequence):
        if row.sequence <= found.sequence:
            found.note(f"row {row.sequence} stands after row {found.sequence}: it came before, or comes again")
        elif row.sequence != found.sequence + 1 and (found.n_rows or found.sequence or whole):
            found.note(f"rows {found.sequence + 1} to {row.sequence - 1} are missing")
        digest = _chain(found, digest, row)
        found.recount.add(row.sequence, row.records)
        found.sequence, found.last_time_ms = row.sequence, row.time_ms
        found.first_time_ms = found.first_time_ms or row.time_ms
        found.n_rows += 1
        _compare_snapshot(found, due.pop(row.sequence, None))
        _hold(found, anchors, digest)
    if trail.last_row() > found.sequence:
        found.note(f"the journal ends before row {trail.last_row()}, which was written")
    for sequence in anchors:
        if sequence > found.sequence:
            found.note(f"row {sequence} was there before, and the journal ends at {found.sequence}")
        else:
            found.notes.append(f"row {sequence} is condensed by now: the digest said of it was not looked at")
    for sequence in due:
        found.note(f"the snapshot of row {sequence} belongs to no row")
    found.digest = digest.hex()


def _hold(found: Audit, anchors: dict[int, str], digest: bytes) -> None:
    """Compare the present row's digest with what was said of it before."""
    said = anchors.pop(found.sequence, "")
    if said and said != digest.hex():
        found.note(f"row {found.sequence} is not the one of before: its digest was {said}, and is {digest.hex()}")


def _chain(found: Audit, before: bytes, row: Row) -> bytes:
    """The digest after a row. A journal may have begun without a chain; where it has one, it goes on."""
    if not row.digest:
        if before or Kind.LIMITS in row.records[:: RECORD.size]:  # who writes these records writes the chain
            found.note(f"row {row.sequence} stands outside the chain")
        return b""
    if row.digest != digest_after(before, row):
        found.note(f"row {row.sequence} is not what was written: its digest differs")
    return row.digest


def _compare_snapshot(found: Audit, snapshot: Snapshot | None) -> None:
    """What the ledger condensed, against the recount at the same row."""
    if snapshot is None:
        return
    found.n_snapshots += 1
    stated = Recount({account.number: account.parent for account in found.accounts})
    stated.open(snapshot.records)
    ours, theirs = _condensed(found.recount), _condensed(stated)
    names = {account.number: account.account_id for account in found.accounts}
    nothing = (0,) * 5
    for key in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(key, nothing), theirs.get(key, nothing)
        if mine != other:
            where = f"{names.get(key[0], key[0])}, {'in all' if key[1] == ALL_DAYS else f'budget day {key[1]}'}"
            columns = "billed, won, held, late, disputed"
            found.note(f"snapshot {snapshot.sequence}, {where}: recounted {mine}, stated {other} ({columns})")


def _condensed(recount: Recount) -> dict[tuple[int, int], tuple[int, ...]]:
    """Billed, won and held by line item and day, late and disputed by line item; without what is nothing at all."""
    table: defaultdict[tuple[int, int], list[int]] = defaultdict(lambda: [0] * 5)
    for account, day, amounts in recount.by_day():
        cell = table[account, day]
        for at, micros in enumerate((amounts.billed, amounts.won, amounts.reserved + amounts.lease_unused)):
            cell[at] += micros
    for account, micros in recount.late.items():
        table[account, ALL_DAYS][3] += micros
    for account, micros in recount.disputed.items():
        table[account, ALL_DAYS][4] += micros
    return {key: tuple(cell) for key, cell in table.items() if any(cell)}


def balances(found: Audit, stranded_before_ms: int) -> dict[int, Amounts]:
    """Every account's amounts, those below it included, by account number."""
    recount = found.recount
    table = {account.number: Amounts() for account in found.accounts}

    def add(leaf: int, amounts: Amounts) -> None:
        for node in recount.limits.path(leaf):
            table.setdefault(node, Amounts()).add(amounts)

    for account, _, amounts in recount.by_day(stranded_before_ms):
        add(account, amounts)
    for account, micros in recount.late.items():
        add(account, Amounts(late=micros))
    for account, micros in recount.disputed.items():
        add(account, Amounts(disputed=micros))
    return table


def days(found: Audit) -> dict[int, dict[int, Amounts]]:
    """Amounts of every account by budget day, those below it included."""
    table: defaultdict[int, defaultdict[int, Amounts]] = defaultdict(lambda: defaultdict(Amounts))
    for leaf, day, amounts in found.recount.by_day():
        for node in found.recount.limits.path(leaf):
            table[node][day].add(amounts)
    return {node: dict(by_day) for node, by_day in table.items()}


def compare_stated(found: Audit, stated: Mapping[int, Amounts], recounted: Mapping[int, Amounts], whose: str) -> None:
    """Note where what somebody states differs; what open leases hold may be split otherwise between its two columns."""
    for account in found.accounts:
        ours, theirs = recounted.get(account.number, Amounts()), stated.get(account.number, Amounts())
        for name, mine, other in _columns(ours, theirs):
            if mine != other:
                found.note(f"{account.account_id}, {name}: recounted {mine}, {whose} states {other}")


def _columns(ours: Amounts, theirs: Amounts) -> Iterable[tuple[str, int, int]]:
    for name in ("billed", "won", "late", "disputed"):
        yield name, getattr(ours, name), getattr(theirs, name)
    held = [side.reserved + side.lease_unused for side in (ours, theirs)]
    yield "reserved and lease_unused", held[0], held[1]
