"""Recorded auctions as they are run once more: those that somebody could bid on, each for itself, in order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from headrace.decisions.reading import Recording
from headrace.errors import DataError
from headrace.types import Int64
from headrace_training.rerun.prices import Prices, prices_of
from headrace_training.values import parse_moment

SPREAD_MS = 60_000
"""A no-bid that was drawn for several stands for auctions around it, at most so far away."""


@dataclass(frozen=True)
class Traffic:
    """n auctions to run.

    rows : (n,) int64 of the recording's auctions; one that stands for several is there as often.
    time_ms : (n,) int64, ascending.   prices : of the n auctions.
    """

    recording: Recording
    rows: Int64
    time_ms: Int64
    prices: Prices


def moment(since: str) -> int:
    """The time that ``--since`` says, ms since 1970 UTC; 0 where it says nothing. Raises ConfigError."""
    return parse_moment(since, "--since") if since else 0


def traffic_of(recording: Recording, rng: np.random.Generator) -> Traffic:
    """The auctions of a recording that had candidates.

    Raises DataError where there is none.
    """
    auctions = recording.auctions
    weight = np.where(auctions["n_candidates"] > 0, auctions["weight"].astype(np.float64), 0.0)
    times = np.floor(weight + rng.random(len(weight))).astype(np.int64)
    rows = np.repeat(np.arange(len(auctions)), times)
    if not len(rows):
        raise DataError(
            "no recorded auction had a candidate", hint="compare targeting with the requests: headrace explain"
        )
    moved = rng.integers(-SPREAD_MS // 2, SPREAD_MS // 2, len(rows))
    time_ms = auctions["time_ms"][rows] + np.where(np.repeat(times, times) > 1, moved, 0)
    order = np.argsort(time_ms, kind="stable")
    return Traffic(recording, rows[order], time_ms[order], prices_of(recording).of(rows[order]))
