"""What became of single bids, as far as the ledger still knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from headrace.ledger.core import LedgerCore
from headrace.ledger.journal import RECORD
from headrace.ledger.tokens import Bodies
from headrace.types import Bool

LOST = 5
"""As in native/include/headrace/leases.hpp."""

_STATES, _STATES_AT = 7, 24  # as in native/include/headrace/records.hpp


class FatesLedger(LedgerCore):
    """A ledger that can be asked about the bids of tokens."""

    def read_tokens(self, tokens: Sequence[str]) -> tuple[Bodies, Bool, Bool]:
        """What tokens say: bodies (n,), malformed (n,) bool, forged (n,) bool; a row is good when it is neither."""
        return self._keys.verify(tokens)

    def homes_of(self, bodies: Bodies) -> list[str]:
        """Which other ledger reserved for each good token; empty where this one did."""
        return [""] * len(bodies)

    def knows(self, account_number: int) -> bool:
        """Whether there is, or was, a line item of this number."""
        found = "SELECT 1 FROM ledger_accounts WHERE account_number = ? AND account_id LIKE '%/%/%'"
        return account_number in self._books.leaves or bool(self._query(found, (account_number,)))

    def lost(self, bodies: Bodies) -> Bool:
        """Which own bids are known to have lost, (n,) bool; of those past the billing window nothing is known."""
        native = self._books.native
        return _lost_among(bodies, lambda lease: native.lease_records(lease) or self._archived(lease))


def _lost_among(bodies: Bodies, records_of: Callable[[int], bytes | None]) -> Bool:
    """Which bids have lost, (n,) bool.

    records_of : what is known of a lease, journal records; None or nothing where it was dropped.
    """
    leases = bodies["lease"]
    result = np.zeros(len(bodies), np.bool_)
    for lease in np.unique(leases).tolist():
        states = _settled_states(records_of(lease) or b"")
        rows = np.flatnonzero(leases == lease)
        serials = bodies["serial"][rows]
        known = serials < len(states)
        result[rows[known]] = states[serials[known]] == LOST
    return result


def _settled_states(records: bytes) -> npt.NDArray[np.uint8]:
    """Settled state by serial, (s,) uint8; 0 where there is none."""
    table = np.frombuffer(records, RECORD)
    table = table[table["kind"] == _STATES]
    if not len(table):
        return np.zeros(0, np.uint8)
    each = np.frombuffer(table.tobytes(), np.uint8).reshape(len(table), RECORD.itemsize)[:, _STATES_AT:]
    width = each.shape[1]
    states = np.zeros(int(table["serial"].max()) + width, np.uint8)
    for first, row in zip(table["serial"].tolist(), each, strict=True):
        states[first : first + width] = row
    return states
