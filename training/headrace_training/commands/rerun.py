"""`headrace-train rerun`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace_training.commands.output import damage, put
from headrace_training.progress import say
from headrace_training.rerun.compare import MEASURES, compare
from headrace_training.rerun.traffic import moment


def rerun(
    records: Annotated[Path, typer.Option(metavar="DIR", help="Decision records: a data folder, or its decisions.")],
    parameters: Annotated[Path, typer.Option(metavar="FILE", help="TOML: what is changed.")],
    against: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML: what it is compared with [nothing changed].")
    ] = None,
    currency: Annotated[str, typer.Option(help="Whose money is counted [the only one].")] = "",
    block: Annotated[str, typer.Option(help="What is resampled: hour or day.")] = "hour",
    since: Annotated[str, typer.Option(help="Only auctions from this time on (UTC) [all].")] = "",
    draws: Annotated[int, typer.Option(help="How often unknown prices are drawn.")] = 5,
    seed: Annotated[int, typer.Option(help="Of prices and resamples.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run recorded auctions again under other settings; the difference, with its 95 % interval."""
    found = compare(
        records, parameters, against, since_ms=moment(since), currency=currency, draws=draws, block=block, seed=seed
    )
    for warning in found["warnings"]:
        say(f"warning: {warning}")
    if json:
        put(found, True)
    else:
        print("\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield from damage(found)
    known = found["known_price_share"]
    yield f"{found['auctions']} auctions, paired by {found['block']} ({found['blocks']}), {known:.1%} of prices known"
    yield f"{found['currency']:<14}{'recorded':>16}{'base':>16}{'changed':>16}{'difference':>16}   95 % interval"
    for name in MEASURES:
        difference = found["difference"][name]
        ends = difference["interval"]
        text = f"{ends[0]:.0f} to {ends[1]:.0f}" if ends else "needs two blocks"
        row = (found["recorded"][name], found["base"][name], found["changed"][name], difference["estimate"])
        yield f"{name:<14}" + "".join(f"{value:>16.0f}" for value in row) + f"   {text}"
