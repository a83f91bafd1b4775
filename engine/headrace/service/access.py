"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headrace.front import Call


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is behind a call.

    name : of the key or certificate, for logs and limits; never the secret.
    tenant : whose data the call is about; empty where the server has one tenant only.
    """

    name: str
    tenant: str = ""


class Access(Protocol):
    """Lets calls through, or not."""

    def admit(self, call: Call) -> Principal:
        """Who makes the call. Raises UnauthenticatedError, PermissionDeniedError."""


class OpenAccess:
    """Everybody who reaches the port may do everything."""

    _everybody = Principal("anyone")

    def admit(self, call: Call) -> Principal:
        """The one principal there is."""
        return self._everybody
