"""`headrace-train compare`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace_training.commands.output import put
from headrace_training.compare import compare_runs
from headrace_training.options import check_seed

VERDICTS = {
    "better": "B is better than A",
    "worse": "B is worse than A",
    "mixed": "B is better than A in one figure and worse in another",
    "no difference": "no difference between A and B is seen on these lines",
}


def compare(
    a: Annotated[Path, typer.Argument(help="Folder that evaluate --save wrote.")],
    b: Annotated[Path, typer.Argument(help="Another one, measured on the same test set.")],
    seed: Annotated[int, typer.Option(help="Of the resamples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Say whether the second run is better than the first, how sure that is, and for whom."""
    check_seed(seed)
    found = compare_runs(a, b, seed)
    if json:
        put(found, True)
    else:
        print("\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    unit = "users" if "users" in found else "lines"
    yield f"{VERDICTS[found['verdict']]} ({found[unit]} {unit})"
    for side in ("a", "b"):
        yield f"  {side.upper()}: {found[side]['model']}, {found[side]['path']}"
    for name, row in found["metrics"].items():
        yield _metric(name, row)
    for name, groups in found["slices"].items():
        yield f"by {name.replace('_', ' ')}:"
        for group in groups:
            for metric, row in group["metrics"].items():
                span = f"{group['from']:g} to {group['to']:g}"
                yield f"{_metric(metric, row)}  {span}, {group[unit]} {unit}: {group['verdict']}"


def _metric(name: str, row: Mapping[str, Any]) -> str:
    low, high = row["interval"]
    return (
        f"  {name}  {row['a']:.4f} to {row['b']:.4f}: {row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        f"  p {row['p_value']:.4f}"
    )
