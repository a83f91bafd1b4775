"""What the tables beside the journal say, held against each other and against the journal."""

from __future__ import annotations

import json
from collections.abc import Mapping

from headrace.audit.auditor import Audit
from headrace.audit.trail import Trail


def compare_tables(found: Audit, trail: Trail) -> None:
    """Note accounts, deposits and late bills that are not what the audit and the journal say of them."""
    settings, balances = _audited(found, trail)
    sums: dict[int, int] = {}
    for row in trail.table("funds"):
        sums[row["account_number"]] = sums.get(row["account_number"], 0) + row["amount_micros"]
    if not trail.shared():  # an authority's own audit says how its settings and balances came about
        _compare_settings(found, trail, settings)
        for account in found.accounts:
            booked, said = sums.get(account.number, 0), balances.get(account.account_id, 0)
            if account.parent < 0 and booked != said:
                found.note(f"{account.account_id}: deposits come to {booked}, its audit says {said}")
    _compare_late(found, trail.late_bills())


def _audited(found: Audit, trail: Trail) -> tuple[dict[str, dict[str, object]], dict[str, int]]:
    """Settings and balances as they were last audited, by account id; every row goes on from the one before."""
    settings: dict[str, dict[str, object]] = {}
    balances: dict[str, int] = {}
    next_id = 1
    for row in trail.table("audit"):
        if row["audit_id"] != next_id:
            found.note(f"rows {next_id} to {row['audit_id'] - 1} of the audit are missing")
        next_id, subject = row["audit_id"] + 1, row["subject"]
        where = f"row {row['audit_id']} of the audit"
        if row["action"] == "set_account":
            before = json.loads(row["before"]) if row["before"] else None
            if before != settings.get(subject):
                found.note(f"{where}: {subject} was not set as it says before")
            settings[subject] = json.loads(row["after"])
        elif row["action"] == "fund":
            if row["before"] != str(balances.get(subject, 0)):
                found.note(f"{where}: the balance of {subject} was {balances.get(subject, 0)}, not {row['before']}")
            balances[subject] = int(row["after"])
    return settings, balances


def _compare_settings(found: Audit, trail: Trail, settings: Mapping[str, Mapping[str, object]]) -> None:
    for row in trail.table("accounts"):
        for name, value in settings.get(row["account_id"], {}).items():
            if row[name] != value:
                found.note(f"{row['account_id']}, {name}: is {row[name]}, its audit says {value}")
        if row["account_id"] not in settings:
            found.note(f"{row['account_id']}: its audit says nothing of it")


def _compare_late(found: Audit, listed: Mapping[int, int]) -> None:
    names = {account.number: account.account_id for account in found.accounts}
    for number, n_late in found.recount.n_late.items():
        if listed.get(number, 0) < n_late:
            said = f"{n_late} late bills in the journal, {listed.get(number, 0)} in the reconciliation table"
            found.note(f"{names.get(number, number)}: {said}")
