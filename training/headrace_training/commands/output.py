"""Reports on stdout: one JSON object, or lines for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def put(report: Mapping[str, Any], as_json: bool) -> None:
    """Print a report; ValueError if it holds a number that JSON has not."""
    if as_json:
        print(json.dumps(report, allow_nan=False))
        return
    width = max((len(name) for name in report), default=0)
    for name, value in report.items():
        tables = value if _holds_rows(value) else {}
        if tables:
            for part, rows in tables.items():
                print(f"{name}, {part.replace('_', ' ')}")
                print("\n".join(f"  {_text(row)}" for row in rows))
        else:
            print(f"{name:<{width}}  {_text(value)}")


def damage(report: Mapping[str, Any]) -> Iterator[str]:
    """A line that names the damaged files of decision records, where there are any."""
    if names := report["torn_files"]:
        yield f"damaged, read up to the damage and no further: {', '.join(names)}"


def _holds_rows(value: Any) -> bool:
    """Whether this is a mapping of lists of mappings, which are printed a line each."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(rows, list) and all(isinstance(row, Mapping) for row in rows) for rows in value.values())
    )


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(inner)}" for name, inner in value.items()) or "-"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
