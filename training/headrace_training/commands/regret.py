"""`headrace-train regret`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace_training.commands.output import damage, put
from headrace_training.regret.report import line, measure, write_report
from headrace_training.rerun.traffic import moment


def regret(
    records: Annotated[Path, typer.Option(metavar="DIR", help="Decision records: a data folder, or its decisions.")],
    campaign: Annotated[str, typer.Option(help="Only this one [all].")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="HTML report with plots; makes its folder.")] = None,
    since: Annotated[str, typer.Option(help="Only auctions from this time on (UTC) [all].")] = "",
    draws: Annotated[int, typer.Option(help="How often unknown prices are drawn.")] = 10,
    seed: Annotated[int, typer.Option(help="Of the drawn prices.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """What share of the best in hindsight each campaign gained, day by day, and where the rest went."""
    found = measure(records, campaign=campaign, since_ms=moment(since), draws=draws, seed=seed)
    if out is not None:
        write_report(out, found)
    if json:
        put(found, True)
        return
    for each in damage(found):
        print(each)
    for day in found["days"]:
        print(f"{day['campaign_id']} {day['day']}: {line(day)}")
    for each in found["campaigns"]:
        print(f"{each['campaign_id']}, {each['days']} days: {line(each)}")
