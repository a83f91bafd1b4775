"""What a reconciliation says, for people and for machines."""

from __future__ import annotations

from typing import Any

from headrace.audit.reconcile import MEANING, SAMPLES, Reconciliation

SHOWN = 5
"""Samples of a class that a person is shown."""


def report_of(bills: str, exchange: str, result: Reconciliation, applied: dict[str, int] | None) -> dict[str, Any]:
    """Rows and micros by class, samples of what differs, and what was settled; None: nothing was to be."""
    return {
        "bills": bills,
        "exchange": exchange,
        "rows": result.n_rows,
        "from_ms": result.first_ms,
        "until_ms": result.last_ms,
        "agrees": not result.differs(),
        "classes": {
            kind: {"rows": result.rows[kind], "micros": result.micros[kind]} for kind in MEANING if result.rows[kind]
        },
        "samples": result.samples,
        "applied": applied,
    }


def text_of(said: dict[str, Any]) -> str:
    """A table of the classes with their meaning, and samples."""
    lines = [f"{said['bills']}: {said['rows']:,} rows"]
    for kind, numbers in said["classes"].items():
        lines.append(f"{kind:<20}{numbers['rows']:>12,}{numbers['micros']:>18,} micros  {MEANING[kind]}")
    for kind, samples in said["samples"].items():
        lines += [f"  {kind}: {text}" for text in samples[:SHOWN]]
        more = said["classes"][kind]["rows"] - SHOWN
        if more > 0:
            lines.append(f"  {kind}: and {more:,} more; --json names the first {SAMPLES}")
    if said["applied"] is not None:
        done = ", ".join(f"{n} {outcome}" for outcome, n in said["applied"].items()) or "nothing"
        lines.append(f"settled: {done}")
    return "\n".join(lines)
