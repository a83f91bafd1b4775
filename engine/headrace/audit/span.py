"""One bill file, the time that it is about, and the ledger beside it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from headrace.audit.auditor import Audit, audit
from headrace.audit.bills import read_bills, read_tokens
from headrace.audit.export import ledger_id_of
from headrace.audit.prices import Billed, PricedTrail
from headrace.audit.reconcile import UNCLAIMED, Claim, Reconciler, Reconciliation
from headrace.audit.slots import adopt, read_slots
from headrace.audit.times import time_ms
from headrace.audit.trail import open_store
from headrace.authority.mirror import key_holders
from headrace.errors import DataError, InvalidRequestError
from headrace.events.store import DATABASE
from headrace.ledger.exchanges import read_numbers
from headrace.ledger.tokens import TokenKeys

KEYS = "ledger.keys"


@dataclass(frozen=True, slots=True)
class Span:
    """[from_ms, until_ms); None: as the file's rows say."""

    from_ms: int | None
    until_ms: int | None

    @classmethod
    def of(cls, since: str, until: str) -> Span:
        """From what people write. Raises InvalidRequestError."""
        return cls(time_ms("--from", since) if since else None, time_ms("--until", until) if until else None)

    def within(self, result: Reconciliation) -> tuple[int, int]:
        """Bounds in ms, from the rows' times where nothing was said; nothing at all where they have none."""
        first = result.first_ms if self.from_ms is None else self.from_ms
        end = result.last_ms + 1 if self.until_ms is None and result.last_ms else self.until_ms or 0
        return first, end


def hold_against(
    data: Path, bills: Path, exchange: str, tokens: Path | None, span: Span, complete: bool
) -> tuple[Reconciliation, list[tuple[str, Claim]]]:
    """Read a bill file beside a data folder: what it says, and what is to be settled, class and claim.

    Raises DataError for a journal that does not bear an audit, since nothing should be settled by it.
    """
    found, billed, foreign, numbers = _read_ledger(data)
    if not (data / KEYS).is_file():
        raise DataError(f"{data / KEYS} is not there", hint="without it no bid can be told from a forged one")
    reconciler = Reconciler(found, billed, TokenKeys(data / KEYS), exchange, foreign, numbers)
    known = read_tokens(tokens)
    claims = [claim for rows in read_bills(bills, known) for claim in reconciler.add(rows)]
    first, end = span.within(reconciler.result)
    if complete and not end:
        raise InvalidRequestError("--complete", "a file without times", "--from and --until with it")
    reconciler.only_ours(first, end)
    if complete:
        now_ms = time.time_ns() // 1_000_000
        claims += [(UNCLAIMED, claim) for claim in reconciler.unclaimed(first, end, now_ms)]
    return reconciler.result, claims


def _read_ledger(data: Path) -> tuple[Audit, Billed, set[int], dict[str, int]]:
    slots = read_slots(data)
    with open_store(data / DATABASE) as trail:
        priced = PricedTrail(trail)
        found = audit(priced)
        adopt(found, trail, slots)
        if found.differences:
            raise DataError(f"the journal is damaged: {found.differences[0]}", hint="headrace ledger audit says more")
        own = f"{int(ledger_id_of(trail) or 0):016x}"
        foreign = {key for key, holder in key_holders(trail.query).items() if holder != own}
        return found, priced.billed(), foreign, read_numbers(trail.query)
