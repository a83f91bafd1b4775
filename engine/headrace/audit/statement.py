"""What an audit says, for people and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from headrace.audit.auditor import Audit, balances, days
from headrace.audit.certificate import day_name, days_of
from headrace.audit.recount import MAX_PROBLEMS

SHOWN = 20
"""Differences that a person is shown."""


def statement(found: Audit, ledger_id: str, stranded_before_ms: int) -> dict[str, Any]:
    """The recomputed balances, lifetime and by budget day, and where they came from."""
    table, by_day = balances(found, stranded_before_ms), days(found)
    return {
        "ledger_id": ledger_id,
        "opening_sequence": found.opening_sequence,
        "sequence": found.sequence,
        "rows": found.n_rows,
        "records": found.recount.n_records,
        "snapshots": found.n_snapshots,
        "digest": found.digest,
        "reserved_known_singly": found.recount.known_singly,
        "accounts": [
            {
                "account_id": account.account_id,
                **{f"{name}_micros": micros for name, micros in asdict(table[account.number]).items()},
                "over_micros": found.recount.limits.over(account.number),
                "days": [
                    {
                        "day": day_name(day),
                        "billed_micros": amounts.billed,
                        "won_micros": amounts.won,
                        "reserved_micros": amounts.reserved,
                        "lease_unused_micros": amounts.lease_unused,
                    }
                    for day in days_of(by_day.get(account.number, {}))
                    for amounts in (by_day[account.number][day],)
                ],
            }
            for account in found.accounts
        ],
        "differences": found.differences,
        "n_differences": found.n_differences,
        "notes": found.notes,
    }


def text_of(said: dict[str, Any]) -> str:
    """A table of the accounts, what was read, and the differences."""
    columns = ("billed", "won", "reserved", "lease_unused", "late", "disputed", "stranded", "over")
    lines = [f"{'account':<40}" + "".join(f"{name:>16}" for name in columns)]
    for account in said["accounts"]:
        cells = "".join(f"{account[f'{name}_micros']:>16,}" for name in columns)
        lines.append(f"{account['account_id']:<40}{cells}")
    lines.append(proof(said))
    lines += [f"NOTE {text}" for text in said["notes"]]
    lines += [f"DIFFERENCE {text}" for text in said["differences"][:SHOWN]]
    if said["n_differences"] > SHOWN:
        lines.append(f"and {said['n_differences'] - SHOWN:,} more differences; --json names the first {MAX_PROBLEMS}")
    return "\n".join(lines)


def proof(said: dict[str, Any]) -> str:
    """What was recomputed from what, and what had to be taken on trust."""
    opening = said["opening_sequence"]
    whole = f"{said['rows']} rows, {said['records']} records up to row {said['sequence']}"
    compared = f"compared with {said['snapshots']} snapshots"
    if opening:
        return f"older rows are condensed: recomputed from the snapshot of row {opening} and {whole}; {compared}"
    return f"recomputed from the beginning: {whole}; {compared}"
