"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headrace.front import TENANT, Call

__all__ = ["TENANT", "Access", "OpenAccess", "Principal"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is behind a call.

    name : of the key or certificate, for logs, limits and the audit; never the secret.
    tenant : whose data the call is about; empty where the server has one tenant only.
    role : as :mod:`headrace.security.roles` names them; empty for whom no key or certificate is asked.
    rate_per_second : requests that it may make, 0: any number; None: what the section admission says.
    burst : requests that it may make at once, 0: those of one second; beside a rate of its own.
    """

    name: str
    tenant: str = ""
    role: str = ""
    rate_per_second: float | None = None
    burst: float = 0.0


class Access(Protocol):
    """Lets calls through, or not."""

    def admit(self, call: Call) -> Principal:
        """Who makes the call. Raises UnauthenticatedError, PermissionDeniedError."""


class OpenAccess:
    """Everybody who reaches the port may do everything.

    several : whether there are tenants, so that a call names the one that it is about.
    """

    def __init__(self, *, several: bool = False) -> None:
        self._everybody = Principal("anyone", role="admin")
        self._several = several

    def admit(self, call: Call) -> Principal:
        """Anyone, about the tenant that the call names."""
        # a call's metadata is made when it is asked for, so it is not where there is nothing to find
        tenant = call.metadata.get(TENANT) if self._several else ""
        return Principal("anyone", tenant, "admin") if tenant else self._everybody
