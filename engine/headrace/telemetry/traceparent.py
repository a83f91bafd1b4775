"""The caller's trace, as W3C Trace Context puts it into a call's metadata."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headrace.front import Call

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that a call was made in: 32 and 16 hex digits, and whether the caller samples its trace."""

    trace_id: str
    span_id: str
    sampled: bool


def parent_of(call: Call) -> Parent | None:
    """The caller's span; None where it names none, or not in the standard's form."""
    text = call.metadata.get("traceparent")
    found = _FORM.fullmatch(text) if text else None
    return None if found is None else Parent(found[1], found[2], bool(int(found[3], 16) & 1))


def trace_id_of(call: Call) -> str:
    """The caller's trace; empty where it names none."""
    parent = parent_of(call)
    return "" if parent is None else parent.trace_id
