"""Settings of the authority that several processes lease from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityConfig:
    """Who allots the money where several processes with a data folder each spend one budget."""

    # sqlite:///PATH (one host), or postgresql://USER@HOST/NAME without a password; empty: this process is on its own.
    url: str = ""
    # File that holds PostgreSQL's password; empty: what libpq finds (PGPASSFILE, ~/.pgpass, PGPASSWORD).
    password_file: str = ""
    # What operators call this process; empty: the host's name and the data folder.
    name: str = ""
    # Milliseconds between two looks at the authority.
    poll_ms: Annotated[int, Meta(ge=10, le=10_000)] = 200
    # Milliseconds that a call of the authority may take.
    timeout_ms: Annotated[int, Meta(ge=100, le=60_000)] = 3000
    # Seconds for which a process that does not reach the authority goes on bidding from what is allotted to it.
    isolation_s: Annotated[int, Meta(ge=1, le=86_400)] = 3600
    # A process is allotted this part of what is left of a line item's budget and of its own share of it: one n-th.
    slice_share: Annotated[int, Meta(ge=1, le=1000)] = 8
    # The most that is allotted at once to a line item, micros.
    slice_max_micros: Annotated[int, Meta(ge=1, le=10**15)] = 50_000_000
