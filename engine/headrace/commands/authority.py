"""``headrace authority …``: the processes that spend one budget, and what an operator does about one that is lost."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import ConfigFile, Tenant
from headrace.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    from headrace.authority.authority import Authority
    from headrace.authority.operators import HolderRow

_COLUMNS = ("holder", "state", "last_heard_of", "allotted_micros", "used_micros", "notices", "name")

app = typer.Typer(
    help="Holders of an authority: list, fence, lift, write off; check its books.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Holder = Annotated[str, typer.Argument(metavar="HOLDER", help="Its number, as headrace authority holders prints it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the audit.")]


@app.command()
def holders(as_json: AsJson = False, config: ConfigFile = None, tenant: Tenant = "") -> None:
    """Print every holder: number, state, last heard of, allotted and used micros, notices that wait, name."""
    from headrace.authority import operators

    with _opened(config, tenant) as authority:
        rows = [_said(row) for row in operators.holders(authority)]
    if as_json:
        print(json.dumps({"holders": rows}))
        return
    print("\t".join(_COLUMNS))
    for row in rows:
        print("\t".join(str(row[column]) for column in _COLUMNS))


@app.command()
def fence(holder: Holder, reason: Why, config: ConfigFile = None, tenant: Tenant = "") -> None:
    """Refuse a holder's calls; it stops bidding, and what is allotted to it stays committed."""
    from headrace.authority import operators

    with _opened(config, tenant) as authority:
        operators.fence_holder(authority, holder, getpass.getuser(), reason)
    print(f"{holder} is fenced")


@app.command()
def lift(holder: Holder, reason: Why, config: ConfigFile = None, tenant: Tenant = "") -> None:
    """Let a fenced holder register again; start its process anew then."""
    from headrace.authority import operators

    with _opened(config, tenant) as authority:
        operators.lift_holder(authority, holder, getpass.getuser(), reason)
    print(f"{holder} may register again")


@app.command("write-off")
def write_off(
    holder: Holder,
    reason: Why,
    force: Annotated[bool, typer.Option("--force", help="It is known not to run any more.")] = False,
    config: ConfigFile = None,
    tenant: Tenant = "",
) -> None:
    """Take back what a fenced holder had not used when it was heard of last. What it did use since is overspent."""
    from headrace.authority import operators

    with _opened(config, tenant) as authority:
        freed = operators.write_off(authority, holder, getpass.getuser(), reason, force=force)
    print(f"{freed} micros may be spent by others")


@app.command()
def check(as_json: AsJson = False, config: ConfigFile = None, tenant: Tenant = "") -> None:
    """Add up all allotments; exit 1 where they are not what the sums say."""
    from headrace.authority import operators
    from headrace.authority.schema import LIFE

    with _opened(config, tenant) as authority:
        try:
            operators.check_books(authority)
        except LedgerError as error:
            if as_json:
                print(json.dumps({"balance": False, "wrong": str(error), "over_limits": []}))
            raise
        over = operators.over_limits(authority)
    found = [
        {"account_id": account, "day": None if day == LIFE else _date(day), "micros": micros}
        for account, day, micros in over
    ]
    if as_json:
        print(json.dumps({"balance": True, "wrong": "", "over_limits": found}))
        return
    print("the books balance")
    for each in found:
        when = f" on {each['day']}" if each["day"] else ""
        print(f"{each['account_id']}: {each['micros']} micros are allotted above its limit{when}")


def _said(row: HolderRow) -> dict[str, str | int]:
    seen = datetime.fromtimestamp(row.seen_ms / 1000, UTC).isoformat(timespec="seconds")
    values = (row.holder, row.state.name.lower(), seen, row.allotted, row.used, row.notices, row.name)
    return dict(zip(_COLUMNS, values, strict=True))


def _date(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


@contextmanager
def _opened(config: ConfigFile, tenant: str) -> Iterator[Authority]:
    from headrace.authority.authority import Authority
    from headrace.config import each_tenant, load_config

    every = each_tenant(load_config(config))
    if tenant not in every:
        raise ConfigError("--tenant", tenant, ", ".join(every) or "none")
    if not every[tenant].authority.url:
        raise ConfigError("authority.url", "", "the authority's URL", "say --config FILE or HEADRACE_AUTHORITY_URL")
    authority = Authority(every[tenant].authority)
    try:
        yield authority
    finally:
        authority.close()
