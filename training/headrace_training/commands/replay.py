"""`headrace-train replay`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace_training.commands.output import put
from headrace_training.replay.report import Options, parse_fractions, replay_files
from headrace_training.replay.strategies import DEFAULT


def replay(
    log: Annotated[Path, typer.Option(help="Auctions: click market_price predicted_value [exchange] a line.")],
    fractions: Annotated[str, typer.Option(help="Budgets, of what buys everything: 1/32,0.5.")],
    history: Annotated[Path | None, typer.Option(help="Auctions before the log, in the same form.")] = None,
    info: Annotated[Path | None, typer.Option(help="The campaign's JSON, in place of a history.")] = None,
    episode: Annotated[int | None, typer.Option(help="Auctions of an episode; else the log is one.")] = None,
    auction: Annotated[str, typer.Option(help="second or first: what a winner pays.")] = "second",
    feedback: Annotated[str, typer.Option(help="full, or censored: prices of auctions won alone.")] = "full",
    strategy: Annotated[str, typer.Option(help="Name of a strategy, or FILE.py:FUNCTION of your own.")] = DEFAULT,
    seed: Annotated[int, typer.Option(help="Of the resamples, and of what a strategy draws.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Play a log of auctions again under another strategy and budget."""
    options = Options(
        fractions=parse_fractions(fractions),
        episode=episode,
        auction=auction,
        feedback=feedback,
        strategy=strategy,
        seed=seed,
    )
    found = replay_files(log, options, history_path=history, info_path=info)
    if json:
        put(found, True)
    else:
        print("\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"{found['strategy']}, {found['auction']} price, {found['feedback']} feedback, {found['episodes']} episodes"
    for row in found["results"]:
        intervals = row["intervals"]
        low, high = intervals["share_of_oracle"]
        fewest, most = intervals["clicks"]
        yield (
            f"fraction {row['fraction']:<8.5g} {row['share_of_oracle']:.4f} of the oracle's value "
            f"({low:.4f} to {high:.4f})   {row['clicks']} clicks ({fewest:.0f} to {most:.0f})   "
            f"{row['impressions']} impressions for {row['cost']}, {row['delivered']:.1%} of the budget"
        )
