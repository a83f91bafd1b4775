"""Whether the ledger's books are the exchanges' own: every bill that we accepted, to the micro."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from headrace.simulate.driver import Run

NANOS_PER_MICRO = 1000


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What both sides say, micros. ``wrong`` names accounts whose books are not what the accepted bills come to.

    billed : of the ledger.   charged : what wins cost by the exchanges' own record.   unbilled : the part of it whose
    bill never came or was not accepted; ``covered`` says whether the ledger still holds at least that much, as it must
    in hold mode.
    """

    billed: int
    charged: float
    unbilled: float
    won: int
    reserved: int
    late: int
    disputed: int
    stranded: int
    covered: bool
    wrong: list[str]

    @property
    def equal(self) -> bool:
        """Whether the books are the accepted bills."""
        return not self.wrong


def reckon(run: Run) -> Reckoning:
    """Compare the books at the end of a run with the exchanges'. A lease rounds up once (docs/ledger.md)."""
    record = run.record
    due: dict[int, int] = defaultdict(int)
    for lease, nanos in record.billed.items():
        due[record.lease_account[lease]] += -(-nanos // NANOS_PER_MICRO)
    states = record.accounts
    expected: dict[str, int] = defaultdict(int)
    for state in states.values():
        parts = state.account_id.split("/")
        for depth in range(1, len(parts) + 1):
            expected["/".join(parts[:depth])] += due[state.account_number]
    wrong = sorted(name for name, state in states.items() if state.billed_micros != expected[name])
    roots = [state for name, state in states.items() if "/" not in name]
    charged = int(record.paid_cpm.sum())
    unbilled = (charged - sum(record.billed.values())) / NANOS_PER_MICRO
    held = sum(state.won_micros + state.reserved_micros + state.late_micros + state.disputed_micros for state in roots)
    return Reckoning(
        billed=sum(state.billed_micros for state in roots),
        charged=charged / NANOS_PER_MICRO,
        unbilled=unbilled,
        won=sum(state.won_micros for state in roots),
        reserved=sum(state.reserved_micros for state in roots),
        late=sum(state.late_micros for state in roots),
        disputed=sum(state.disputed_micros for state in roots),
        stranded=sum(state.stranded_micros for state in roots),
        covered=bool(np.ceil(unbilled) <= held),
        wrong=wrong,
    )
