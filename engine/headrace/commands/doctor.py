"""``headrace doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands.options import ConfigFile


def doctor(
    config: ConfigFile = None,
    at: Annotated[str, typer.Option("--at", metavar="HOST:PORT", help="A running server to ask, too.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at all that a server needs and say what to do; exit 1 where something fails."""
    from headrace.client.health import check
    from headrace.config import load_config
    from headrace.operations.doctor import examine, json_of, text_of
    from headrace.operations.finding import Level

    findings = list(examine(load_config(config), check, at))
    print(json_of(findings) if as_json else text_of(findings))
    raise SystemExit(1 if any(finding.level == Level.FAIL for finding in findings) else 0)
