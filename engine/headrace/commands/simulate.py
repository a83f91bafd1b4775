"""``headrace simulate``: try a configuration in a made-up market before it costs money."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.commands.options import ConfigFile
from headrace.errors import ConfigError


def simulate(
    scenario: Annotated[str, typer.Argument(metavar="SCENARIO", help="A TOML file, or a ready scenario by its name.")],
    seed: Annotated[int | None, typer.Option(metavar="N", help="Another market of the same kind.")] = None,
    config: ConfigFile = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an HTML report; makes its folder.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the scenario's text instead of running it.")] = False,
) -> None:
    """Run the real bidder and ledger in a simulated market: is the budget spent, on plan, and well?"""
    from headrace.config import load_config
    from headrace.simulate.driver import simulate as run_scenario
    from headrace.simulate.loading import read_plan, scenario_text
    from headrace.simulate.outcome import outcomes
    from headrace.simulate.summary import summarize

    if show:
        print(scenario_text(scenario), end="")
        return
    if out is not None:
        _check_report()
    if seed is not None and seed < 0:
        raise ConfigError("--seed", seed, "0 or more")
    plan = read_plan(scenario, seed)
    settings = load_config(config)
    run = run_scenario(plan, bidding=settings.bidding, ledger=settings.ledger, progress=_progress)
    results = outcomes(run)
    summary = summarize(run, results)
    for warning in summary["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    if out is not None:
        from headrace.simulate.report import write_report

        write_report(out, run, results, summary)
        print(f"report: {out}", file=sys.stderr)
    print(json.dumps(summary, allow_nan=False) if as_json else _lines(summary))


def _check_report() -> None:
    from headrace.page import missing

    lacking = missing()
    if lacking:
        hint = "pip install 'headrace[simulate]', or use --json without --out"
        raise ConfigError(f"--out needs {' and '.join(lacking)}", hint=hint)


def _progress(share: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{share:4.0%}", end="" if share < 1.0 else "\n", file=sys.stderr, flush=True)


def _lines(summary: dict[str, Any]) -> str:
    """The summary for people."""
    ledger = summary["ledger"]
    lines = [
        f"{summary['scenario']}, seed {summary['seed']}: {summary['auctions']:,} auctions in {summary['days']:g} days, "
        f"{summary['bids']:,} bids, {summary['wins']:,} wins"
    ]
    for each in summary["campaigns"]:
        delivered, optimum = _share(each["delivered"]), _share(each["share_of_optimum"])
        lines.append(
            f"{each['campaign_id']}: spent {each['spent_micros'] / 1e6:,.2f}, {delivered} of what can be spent; "
            f"furthest from plan {_share(each['largest_deviation'])}; {optimum} of the best value; overspend "
            f"{each['overspend_micros']} micros"
        )
        for event in each["disturbances"]:
            minutes = event["recovery_minutes"]
            after = "not back on plan in time" if minutes is None else f"on plan after {minutes} minutes"
            lines.append(
                f"  {event['what']} at hour {event['at_hour']:g}: off by {_share(event['deviation'])}, {after}"
            )
    equal = "equal" if ledger["books_equal"] else f"DIFFER at {', '.join(ledger['wrong_accounts'])}"
    lines.append(f"ledger: the books and the exchanges' bills are {equal}; {ledger['billed_micros']} micros billed")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"
