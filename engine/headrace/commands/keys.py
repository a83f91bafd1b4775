"""``headrace keys …``: make, list and revoke the keys of a server."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from headrace.security.keys import Credential, Key, create_key, read_keyring
from headrace.security.keys import revoke as revoke_key
from headrace.security.roles import Role

app = typer.Typer(help="Make, list and revoke the keys of a server.", no_args_is_help=True, rich_markup_mode=None)

File = Annotated[
    Path, typer.Option("--file", metavar="FILE", envvar="HEADRACE_SECURITY_KEYS", help="Keys file of the server.")
]


@app.command()
def create(
    file: File,
    role: Annotated[Role, typer.Option(help="What its owner may do.")],
    tenant: Annotated[str, typer.Option(metavar="NAME", help="Whose data, where there are tenants.")] = "",
    expires: Annotated[float | None, typer.Option(metavar="DAYS", help="Days until it is refused [never].")] = None,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Requests a second, 0: any number [the server's setting].")
    ] = None,
    burst: Annotated[float | None, typer.Option(metavar="M", help="Requests at once [those of one second].")] = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="What it is for; kept in the file.")] = "",
) -> None:
    """Add a key and print it, this once: the file keeps its hash alone. A running server takes it within a second."""
    key, whole = create_key(
        file, role, tenant=tenant, expires_days=expires, note=note, rate=(rate, burst), now=datetime.now(UTC)
    )
    print(f"key {key.id}, role {key.role}: keep the line below, it is shown this once", file=sys.stderr)
    print(whole)


@app.command("list")
def list_keys(file: File) -> None:
    """Print every key and certificate: name, role, tenant, state, end, note."""
    now = datetime.now(UTC)
    for one in read_keyring(file).credentials():
        ends = one.expires.isoformat() if one.expires else "never"
        kind = "key" if isinstance(one, Key) else "certificate"
        print("\t".join((kind, one.name, one.role, one.tenant or "-", _state(one, now), ends, one.note)).rstrip())


@app.command()
def revoke(
    file: File, name: Annotated[str, typer.Argument(metavar="ID", help="The key's id, or a certificate's subject.")]
) -> None:
    """Disable a key or certificate. A running server refuses it within a second."""
    revoke_key(file, name)
    print(f"{name} is disabled")


def _state(one: Credential, now: datetime) -> str:
    if one.disabled:
        return "disabled"
    return "expired" if one.expires and one.expires <= now else "in force"
