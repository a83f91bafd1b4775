"""``headrace ledger reconcile``."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import DEFAULT_DATA, Ca, Certificate, ConfigFile, Data, KeyFile, Tenant, connection
from headrace.errors import InvalidRequestError

if TYPE_CHECKING:
    from headrace.audit.settle import Settler


def reconcile(
    bills: Annotated[Path, typer.Option("--bills", metavar="FILE", help="The exchange's bill: CSV or Parquet.")],
    exchange: Annotated[
        str | None, typer.Option("--exchange", metavar="NAME", help="Whose bill it is [any exchange's].")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option("--tokens", metavar="FILE", help="Tokens of bids that the file names by bid_id.")
    ] = None,
    since: Annotated[
        str, typer.Option("--from", metavar="TIME", help="First moment of the bill [its first row].")
    ] = "",
    until: Annotated[str, typer.Option("--until", metavar="TIME", help="End of the bill [its last row].")] = "",
    complete: Annotated[
        bool, typer.Option("--complete", help="The file has all that the exchange bills for that time.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Settle what the file shows.")] = False,
    who: Annotated[str, typer.Option("--who", metavar="NAME", help="For the audit [the user's name].")] = "",
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="For the audit; needed with --apply.")] = "",
    data: Data = DEFAULT_DATA,
    config: ConfigFile = None,
    at: Annotated[str, typer.Option("--at", metavar="HOST:PORT", help="The server that owns the ledger, if any.")] = "",
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Hold an exchange's bill against the ledger, and settle what it shows; exit 1 where anything differs."""
    from headrace.audit.report import report_of, text_of
    from headrace.audit.settle import carry_out
    from headrace.audit.span import Span, hold_against

    if exchange == "":
        raise InvalidRequestError("--exchange", exchange, "a name", "left out: bids of any exchange")
    exchange = exchange or ""
    if complete and not exchange:
        raise InvalidRequestError("--complete", "no --exchange", "whose bids the file has all of")
    if apply and not why:
        raise InvalidRequestError("--why", why, "a reason, for the audit", "which bill file is it?")
    span = Span.of(since, until)
    result, claims = hold_against(data, bills, exchange, tokens, span, complete)
    applied: dict[str, int] | None = {} if apply else None
    if apply and claims:
        way = connection(key_file, ca, certificate, tenant)
        with _settler(data, config, at, (who or getpass.getuser(), why), way) as settler:
            applied = carry_out(settler, claims)
    said = report_of(str(bills), exchange, result, applied)
    print(json.dumps(said) if as_json else text_of(said))
    raise SystemExit(1 if result.differs() else 0)


@contextmanager
def _settler(data: Path, config: Path | None, at: str, by: tuple[str, str], way: object) -> Iterator[Settler]:
    from headrace.audit.settle import ServerSettler, store_settler
    from headrace.client import Client, Connection
    from headrace.config import load_config

    assert isinstance(way, Connection)
    if at:
        with Client(at, way) as client:
            yield ServerSettler(client, *by)
        return
    with store_settler(data, load_config(config).ledger, *by) as settler:
        yield settler
