"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.client import Connection

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_DATA = Path("headrace-data")

At = Annotated[str, typer.Option("--at", metavar="HOST:PORT", help="The server to ask.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="TOML file of settings.")]
Data = Annotated[Path, typer.Option("--data", metavar="DIR", help="Folder of the database and the ledger.")]
KeyFile = Annotated[
    Path | None, typer.Option("--key-file", metavar="FILE", help="File that holds the API key [HEADRACE_API_KEY].")
]
Ca = Annotated[
    str, typer.Option("--ca", metavar="FILE", envvar="HEADRACE_CA", help="Who vouches for the server; or: system.")
]
Certificate = Annotated[
    str, typer.Option("--cert", metavar="FILE", envvar="HEADRACE_CERT", help="Client certificate with its private key.")
]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="NAME", envvar="HEADRACE_TENANT", help="For who may reach several tenants.")
]


def connection(key_file: Path | None, ca: str, certificate: str, tenant: str) -> Connection:
    """How a command reaches a server; a key comes from a file or the environment, as arguments show in ``ps``."""
    from headrace.client import Connection

    try:
        api_key = key_file.read_text("utf-8").strip() if key_file else os.environ.get("HEADRACE_API_KEY", "")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--key-file", str(key_file), "a file that holds an API key", str(error)) from error
    return Connection(api_key=api_key, tenant=tenant, ca=ca, certificate=certificate)
