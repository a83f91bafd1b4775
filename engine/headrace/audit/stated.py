"""What the ledger itself states of its accounts, to be compared with a recount."""

from __future__ import annotations

from headrace.audit.auditor import Audit, balances, compare_stated
from headrace.audit.recount import Amounts
from headrace.audit.trail import StoreTrail
from headrace.errors import LedgerError
from headrace.ledger.recovery import LedgerConfig, load_view


def stated_by_engine(trail: StoreTrail, now_ms: int) -> dict[int, Amounts]:
    """Every account's amounts as the native ledger reads them from the same rows, by account number.

    Raises LedgerError when it cannot read them.
    """
    books = load_view(trail.query, LedgerConfig(), now_ms)
    books.native.freeze()
    return {
        state.account_number: Amounts(
            state.billed_micros,
            state.won_micros,
            state.reserved_micros,
            state.lease_unused_micros,
            state.late_micros,
            state.disputed_micros,
            state.stranded_micros,
        )
        for state in books.states(0)
    }


def compare_engine(found: Audit, trail: StoreTrail, now_ms: int) -> None:
    """Note where the native ledger reads other amounts from the same rows, or cannot read them."""
    try:
        stated = stated_by_engine(trail, now_ms)
    except LedgerError as error:
        found.note(f"the engine does not read the journal: {error}")
    else:
        compare_stated(found, stated, balances(found, 0), "the engine")
