"""What can be set of the service around the methods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityConfig:
    """Who may call."""

    # File of API keys and certificate names, as `headrace keys` writes it; empty: whoever reaches the port may do all.
    keys: str = ""
