"""``headrace doctor``."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from headrace.commands.options import Ca, Certificate, ConfigFile, KeyFile, Tenant, connection


def doctor(
    config: ConfigFile = None,
    at: Annotated[str, typer.Option("--at", metavar="HOST:PORT", help="A running server to ask, too.")] = "",
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at all that a server needs and say what to do; exit 1 where something fails."""
    from headrace.client import Client
    from headrace.client.health import check
    from headrace.config import load_config
    from headrace.operations.doctor import examine, json_of, text_of
    from headrace.operations.finding import Level
    from headrace.operations.network import Asking

    way = connection(key_file, ca, certificate, tenant)

    def version(address: str) -> str:
        with Client(address, way) as client:
            return client.current_artifact().artifact.version

    asking = Asking(partial(check, connection=way), version if way.api_key else None)
    findings = list(examine(load_config(config), asking, at))
    print(json_of(findings) if as_json else text_of(findings))
    raise SystemExit(1 if any(finding.level == Level.FAIL for finding in findings) else 0)
