"""Which calls there is time and room for."""

from __future__ import annotations

from typing import Protocol

from headrace.errors import HeadraceError
from headrace.front import Call
from headrace.service.access import Principal


class Admission(Protocol):
    """Refuses at once what would be answered too late, or is asked too often."""

    def refusal(self, call: Call, principal: Principal, now: float) -> HeadraceError | None:
        """Why not to answer a call; None to answer it. ``now`` is on the clock of ``time.monotonic()``."""

    def answered(self, method: str, n: int, took_s: float) -> None:
        """Hear how long a batch of a method's calls took."""


class AdmitAll:
    """Refuses nothing."""

    def refusal(self, call: Call, principal: Principal, now: float) -> HeadraceError | None:
        """None."""
        return None

    def answered(self, method: str, n: int, took_s: float) -> None:
        """Nothing to learn."""
