"""`headrace-train offpolicy`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace_training.commands.output import put
from headrace_training.offpolicy import estimate_files

NAMES = {"logged": "as logged", "ips": "IPS", "snips": "SNIPS", "dr": "doubly robust"}


def offpolicy(
    log: Annotated[Path, typer.Option(help="Table of shown items with rewards and propensities.")],
    policy: Annotated[str, typer.Option(help="uniform, or a table of items and probabilities.")] = "uniform",
    items: Annotated[Path | None, typer.Option(help="Table of all items that could be shown.")] = None,
    context: Annotated[str, typer.Option(help="Columns for the reward model, with commas; * for any letters.")] = "",
    clip: Annotated[float, typer.Option(help="Cut weights above this; 0: do not.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the folds and the resamples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Estimate from a log what another policy would have earned, with 95 % intervals."""
    columns = tuple(name.strip() for name in context.split(",") if name.strip())
    found = estimate_files(log, policy, context=columns, catalogue=items, clip=clip, seed=seed)
    if json:
        put(found, True)
    else:
        print("\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['policy']}, from {found['rows']} rows of {found['actions']} items"
    for name, title in NAMES.items():
        low, high = found[name]["interval"]
        yield f"{title:<15} {found[name]['estimate']:.5f}   95 % interval {low:.5f} to {high:.5f}"
    yield f"effective sample size {found['effective_sample_size']:.0f}, largest weight {found['max_weight']:.1f}"
