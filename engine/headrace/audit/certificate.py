"""The certificate: what a campaign spent, what it may have overspent, and what that is known from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

from headrace.audit.auditor import Audit, balances, days
from headrace.audit.layout import ALL_DAYS
from headrace.audit.limits import UNBOUND
from headrace.audit.recount import Amounts, Released
from headrace.audit.trail import Account
from headrace.errors import NotFoundError

_EPOCH = date(1970, 1, 1).toordinal()
HOLD, EXPIRE = "hold", "expire"
EARLIER = "earlier"


@dataclass(frozen=True, slots=True)
class Day:
    """One budget day of a node, micros; ``limit_micros`` -1: none of its own; the highest it was: -1, too.

    day : ISO 8601; `EARLIER`: all days of which the journal keeps no more than their sum.
    """

    day: str
    spent_micros: int
    reserved_micros: int
    lease_unused_micros: int
    limit_micros: int
    highest_limit_micros: int
    over_micros: int


@dataclass(frozen=True, slots=True)
class Bound:
    """What expire mode may overspend: late_rate x released_micros, both measured; in hold mode nothing.

    late_rate : of what was released by time, the share (by reserved micros) that was billed after all.
    billed_micros : what those bills claim; `inside`: not above the bound.
    """

    released_micros: int
    released_reservations: int
    late_rate: float
    bound_micros: int
    billed_micros: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """One node. over_micros: the most by which more was ever committed than its budget in force."""

    account_id: str
    currency: str
    mode: str
    over_micros: int
    late_bills: int
    late_micros: int
    disputed_micros: int
    stranded_micros: int
    reserved_micros: int
    lease_unused_micros: int
    billed_micros: int
    won_micros: int
    spent_micros: int
    limit_micros: int
    highest_limit_micros: int
    bound: Bound
    days: tuple[Day, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """The journal of one ledger, up to a row. Two sources of one ledger and row have one digest."""

    ledger_id: str
    opening_sequence: int
    sequence: int
    from_ms: int
    until_ms: int
    digest: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """Entries of advertisers, campaigns and line items, and the journals that they were computed from."""

    sources: tuple[Source, ...]
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    accounts: tuple[Entry, ...]


def certify(
    found: Audit, late_bills: Mapping[int, int], ledger_id: str, stranded_before_ms: int, campaign: str = ""
) -> Certificate:
    """The certificate of an audit; ``campaign`` restricts it to one account and those below it.

    Raises NotFoundError for a campaign that has no account.
    """
    chosen = [
        account for account in found.accounts if f"{account.account_id}/".startswith(f"{campaign}/" if campaign else "")
    ]
    if not chosen:
        raise NotFoundError("--campaign", campaign, "advertiser/campaign, or an advertiser, with an account")
    table, by_day = balances(found, stranded_before_ms), days(found)
    late, released = _rolled(found, late_bills), _released(found)
    modes = _modes(found.accounts)
    entries = [
        _entry(
            found,
            account,
            table[account.number],
            by_day.get(account.number, {}),
            (late.get(account.number, 0), released.get(account.number, Released())),
            modes[account.number],
        )
        for account in chosen
    ]
    times = found.first_time_ms, found.last_time_ms
    source = Source(ledger_id, found.opening_sequence, found.sequence, *times, found.digest)
    return Certificate((source,), tuple(found.differences), tuple(found.notes), tuple(entries))


def _entry(
    found: Audit,
    account: Account,
    amounts: Amounts,
    by_day: Mapping[int, Amounts],
    late: tuple[int, Released],
    mode: str,
) -> Entry:
    limits = found.recount.limits
    life = limits.life[account.number]
    limit = life.limit if account.number in limits.said else _or_none(account.lifetime_micros)
    return Entry(
        account.account_id,
        account.currency,
        mode,
        limits.over(account.number),
        late[0],
        amounts.late,
        amounts.disputed,
        amounts.stranded,
        amounts.reserved,
        amounts.lease_unused,
        amounts.billed,
        amounts.won,
        amounts.billed + amounts.won,
        _said(limit),
        _said(life.highest if account.number in limits.said else UNBOUND),
        _bound(late[1]),
        tuple(_day(found, account.number, day, by_day[day]) for day in days_of(by_day)),
    )


def _or_none(limit: int | None) -> int:
    return UNBOUND if limit is None else limit


def _day(found: Audit, number: int, day: int, amounts: Amounts) -> Day:
    bound = found.recount.limits.days[number].get(day) if day != ALL_DAYS else None
    return Day(
        day_name(day),
        amounts.billed + amounts.won,
        amounts.reserved,
        amounts.lease_unused,
        _said(UNBOUND if bound is None else bound.limit),
        _said(UNBOUND if bound is None else bound.highest),
        0 if bound is None else bound.over,
    )


def days_of(by_day: Mapping[int, Amounts]) -> list[int]:
    """Budget days in their order; `ALL_DAYS` where anything is left of it."""
    earlier = by_day.get(ALL_DAYS, Amounts())
    return sorted(day for day in by_day if day != ALL_DAYS or earlier != Amounts())


def day_name(day: int) -> str:
    """A budget day as people write it."""
    return EARLIER if day == ALL_DAYS else date.fromordinal(_EPOCH + day).isoformat()


def _said(limit: int) -> int:
    return -1 if limit >= UNBOUND else limit


def _bound(released: Released) -> Bound:
    rate = released.late_micros / released.micros if released.micros else 0.0
    return Bound(
        released.micros,
        released.n,
        rate,
        released.late_micros,
        released.billed_micros,
        released.billed_micros <= released.late_micros,
    )


def _modes(accounts: Iterable[Account]) -> dict[int, str]:
    """Each node's mode in force: the nearest that is set above it, hold where none is."""
    modes: dict[int, str] = {-1: HOLD}
    for account in accounts:  # parents come first
        own = {1: HOLD, 2: EXPIRE}.get(account.mode)
        modes[account.number] = own or modes[account.parent]
    return modes


def _rolled(found: Audit, counts: Mapping[int, int]) -> dict[int, int]:
    rolled: dict[int, int] = {}
    for leaf, n in counts.items():
        for node in found.recount.limits.path(leaf):
            rolled[node] = rolled.get(node, 0) + n
    return rolled


def _released(found: Audit) -> dict[int, Released]:
    rolled: dict[int, Released] = {}
    for leaf, released in found.recount.released.items():
        for node in found.recount.limits.path(leaf):
            rolled.setdefault(node, Released()).add(released)
    return rolled


def as_dict(certificate: Certificate) -> dict[str, Any]:
    """For JSON."""
    return asdict(certificate)


def text_of(certificate: Certificate) -> str:
    """One line a campaign, as people read it, and what it was computed from."""
    lines: list[str] = []
    for entry in certificate.accounts:
        if entry.account_id.count("/") < 2:
            lines += _lines(entry)
    for source in certificate.sources:
        opening = source.opening_sequence
        since = f"the snapshot of row {opening}" if opening else "the beginning"
        lines.append(
            f"ledger {source.ledger_id}: from {since} and the journal up to row {source.sequence}, "
            f"{_time(source.from_ms)} to {_time(source.until_ms)}; digest {source.digest or 'none'}"
        )
    lines += [f"NOTE {text}" for text in certificate.notes]
    lines += [f"DIFFERENCE {text}" for text in certificate.differences]
    return "\n".join(lines)


def _lines(entry: Entry) -> Iterable[str]:
    limit = ", no limit of its own" if entry.limit_micros < 0 else f" of {entry.limit_micros}"
    yield (
        f"{entry.account_id} ({entry.currency}, {entry.mode}): over: {entry.over_micros} micros; "
        f"late: {entry.late_bills} bills, {entry.late_micros} micros; stranded: {entry.stranded_micros} micros; "
        f"disputed: {entry.disputed_micros} micros; reserved: {entry.reserved_micros} micros; "
        f"unused: {entry.lease_unused_micros} micros; "
        f"spent: {entry.spent_micros}{limit}"
    )
    if entry.mode == EXPIRE:
        bound = entry.bound
        inside = "inside" if bound.inside else "OUTSIDE: bills above their reservation"
        yield (
            f"  bound: late rate {bound.late_rate:.6f} x {bound.released_micros} micros released by time = "
            f"{bound.bound_micros} micros; billed of it {bound.billed_micros}, {inside}"
        )
    else:
        yield "  bound: 0 micros, as long as no charge is above its reservation"
    for day in entry.days:
        limit = "no daily limit" if day.limit_micros < 0 else f"of {day.limit_micros}"
        yield (
            f"  {day.day}: spent {day.spent_micros} {limit}, reserved {day.reserved_micros}, "
            f"unused {day.lease_unused_micros}, over {day.over_micros}"
        )


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="seconds") if time_ms else "nothing"
