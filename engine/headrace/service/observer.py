"""What happens to calls, told to whoever counts, traces or logs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headrace.errors import HeadraceError
from headrace.front import Call, Reply


class Observer(Protocol):
    """Hears of every call, a batch at a time; must be quick and must not raise."""

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """A call that was not let in: not known, not allowed, too often or too late."""

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """Calls of one method and tenant, answered together; times on the clock of ``time.monotonic()``."""


class Silent:
    """Forgets everything."""

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """Nothing."""

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """Nothing."""
