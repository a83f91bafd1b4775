"""What can be set of decision records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from msgspec import Meta


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsConfig:
    """Which decisions are kept, how much of each, and for how long."""

    LIVE: ClassVar[frozenset[str]] = frozenset({"no_bid_rate", "candidate_limit", "keep_days", "keep_mib"})
    """Keys that change without a restart."""

    # Keep a record of every bid, in the folder "decisions" of the data folder.
    record: bool = True
    # Share of impressions without a bid that are kept, too; each is kept with its weight, one over this share.
    no_bid_rate: Annotated[float, Meta(ge=0, le=1)] = 0.01
    # Candidates of an impression that are kept, those with the highest paced value.
    candidate_limit: Annotated[int, Meta(ge=1, le=1024)] = 16
    # Mebibytes after which a new file is begun.
    segment_mib: Annotated[int, Meta(ge=1, le=4096)] = 64
    # Minutes after which a new file is begun, however small the old one is.
    segment_minutes: Annotated[float, Meta(gt=0, le=10_080)] = 60.0
    # Days for which files are kept.
    keep_days: Annotated[float, Meta(gt=0, le=3650)] = 7.0
    # Mebibytes of all files together; the oldest go first.
    keep_mib: Annotated[int, Meta(ge=1, le=1 << 30)] = 4096
    # Impressions that wait to be written, at most; one more is counted and dropped, so that a slow disk delays no bid.
    queue: Annotated[int, Meta(ge=1, le=1 << 24)] = 65_536
