"""From a configuration to a ledger: one on its own, or one that an authority allots money to."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from headrace.authority import mirror
from headrace.authority.authority import Authority
from headrace.authority.held import Acted, HeldLedger, Settled
from headrace.authority.settings import AuthorityConfig
from headrace.errors import ConfigError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger, LedgerConfig


def open_ledger(
    data: Path, store: Store, *, clock_ms: Callable[[], int], ledger: LedgerConfig, authority: AuthorityConfig
) -> Ledger:
    """The ledger of a data folder, not acquired yet; it closes what it opened. Raises ConfigError, StoreError."""
    if not authority.url:
        alone = Ledger(data, store, clock_ms=clock_ms, config=ledger)
        if mirror.belongs(store.read):  # its accounts are copies of whole budgets that others spend, too
            hint = "set authority.url as it was, or begin with an empty folder"
            raise ConfigError(f"the ledger in {data} spends what an authority allots to it", hint=hint)
        return alone
    name = authority.name or f"{socket.gethostname()}:{data.resolve()}"
    with ExitStack() as undo:
        opened = Authority(replace(authority, name=name))
        undo.callback(opened.close)
        held = HeldLedger(data, store, clock_ms=clock_ms, config=ledger, authority=opened)
        if mirror.holds_money_of_its_own(store.read):
            hint = "name an empty folder, and fund what is left of the old balance"
            raise ConfigError(f"the ledger in {data} has money of its own, set without an authority", hint=hint)
        undo.pop_all()
    return held


@contextmanager
def in_step(ledger: Ledger, settled: Settled, acted: Acted) -> Iterator[None]:
    """Within: a ledger with an authority is kept in step with it; ``settled`` hears of notices that come that way, and
    ``acted`` takes in reported purchases."""
    if not isinstance(ledger, HeldLedger):
        yield
        return
    ledger.on_settled, ledger.on_actions = settled, acted
    ledger.holder.step_quietly()  # first shares of all that is bid for, before the first bid
    ledger.holder.start()
    try:
        yield
    finally:
        ledger.holder.stop()
