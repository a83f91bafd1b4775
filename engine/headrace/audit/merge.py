"""Certificates of several ledgers over one authority, as one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from headrace.audit.certificate import EARLIER, Bound, Certificate, Day, Entry

_SUMS = (
    "late_bills",
    "late_micros",
    "disputed_micros",
    "stranded_micros",
    "reserved_micros",
    "lease_unused_micros",
    "billed_micros",
    "won_micros",
    "spent_micros",
)


def merge(certificates: Sequence[Certificate]) -> Certificate:
    """Add up what each ledger has of an account.

    Over is the most of: what any of them was over, and by how much all of them together stand above the highest limit
    that there ever was; a cut below what is committed is not over.
    """
    if len(certificates) == 1:
        return certificates[0]
    entries: dict[str, list[Entry]] = {}
    for certificate in certificates:
        for entry in certificate.accounts:
            entries.setdefault(entry.account_id, []).append(entry)
    return Certificate(
        tuple(source for certificate in certificates for source in certificate.sources),
        tuple(text for certificate in certificates for text in certificate.differences),
        tuple(text for certificate in certificates for text in certificate.notes),
        tuple(_entry(parts) for parts in entries.values()),
    )


def _entry(parts: Sequence[Entry]) -> Entry:
    sums = {name: sum(getattr(part, name) for part in parts) for name in _SUMS}
    highest = max(part.highest_limit_micros for part in parts)
    committed = sums["spent_micros"] + sums["reserved_micros"] + sums["lease_unused_micros"]
    by_day: dict[str, list[Day]] = {}
    for part in parts:
        for day in part.days:
            by_day.setdefault(day.day, []).append(day)
    return replace(
        parts[0],
        **sums,
        highest_limit_micros=highest,
        over_micros=max(max(part.over_micros for part in parts), _above(committed, highest)),
        bound=_bound([part.bound for part in parts]),
        days=tuple(_day(by_day[name]) for name in sorted(by_day, key=lambda name: (name != EARLIER, name))),
    )


def _day(parts: Sequence[Day]) -> Day:
    spent = sum(day.spent_micros for day in parts)
    reserved = sum(day.reserved_micros for day in parts)
    unused = sum(day.lease_unused_micros for day in parts)
    highest = max(day.highest_limit_micros for day in parts)
    over = max(max(day.over_micros for day in parts), _above(spent + reserved + unused, highest))
    return replace(
        parts[0],
        spent_micros=spent,
        reserved_micros=reserved,
        lease_unused_micros=unused,
        highest_limit_micros=highest,
        over_micros=over,
    )


def _above(committed: int, highest: int) -> int:
    return max(committed - highest, 0) if highest >= 0 else 0


def _bound(parts: Iterable[Bound]) -> Bound:
    listed = list(parts)
    released = sum(part.released_micros for part in listed)
    bound = sum(part.bound_micros for part in listed)
    return Bound(
        released,
        sum(part.released_reservations for part in listed),
        bound / released if released else 0.0,
        bound,
        sum(part.billed_micros for part in listed),
        all(part.inside for part in listed),
    )
