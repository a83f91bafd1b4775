"""What an examination says: one line a finding."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Nothing to do; something to know; something that keeps a server from working or money from being safe."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what was found, and what to do about it (empty: nothing)."""

    level: Level
    subject: str
    found: str
    advice: str = ""


def ok(subject: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, subject, found)


def warn(subject: str, found: str, advice: str) -> Finding:
    """It works, but."""
    return Finding(Level.WARN, subject, found, advice)


def fail(subject: str, found: str, advice: str) -> Finding:
    """It does not work, or is not safe."""
    return Finding(Level.FAIL, subject, found, advice)
