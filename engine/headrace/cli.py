"""The command line: ``headrace …``. Exit codes: 0 done, 2 bad input, 1 anything else."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from headrace.commands.authority import app as authority
from headrace.commands.backup import backup, fence, restore
from headrace.commands.doctor import doctor
from headrace.commands.explain import explain
from headrace.commands.keys import app as keys
from headrace.commands.ledger import app as ledger
from headrace.commands.migrate import migrate
from headrace.commands.options import DEFAULT_ADDRESS, At, Ca, Certificate, ConfigFile, KeyFile, Tenant, connection
from headrace.commands.simulate import simulate
from headrace.commands.warm import warm
from headrace.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    HeadraceError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)

BAD_INPUT = (
    ArtifactError,
    ConfigError,
    DataError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
)

NOT_REACHED = "; check --at, and where the server speaks TLS --ca and --cert"
"""What to do when gRPC itself found nobody, or nobody to trust."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for command in (backup, restore, fence, migrate, doctor, explain, warm, simulate):
    app.command()(command)
app.add_typer(keys, name="keys")
app.add_typer(authority, name="authority")
app.add_typer(ledger, name="ledger")


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def headrace(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Recommendations and bids from one learned value."""


@app.command()
def serve(
    artifact: Annotated[
        str | None, typer.Option(metavar="DIR", help="Artifact store that headrace-train publish wrote.")
    ] = None,
    config: ConfigFile = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help=f"Address to serve on [{DEFAULT_ADDRESS}]; port 0: any.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder of the database and the ledger [headrace-data].")
    ] = None,
    door: Annotated[str | None, typer.Option(metavar="native|grpcio", help="Transport [the fastest built].")] = None,
    insecure: Annotated[
        bool | None, typer.Option("--insecure", help="Serve beyond this machine without TLS, or without keys.")
    ] = None,
) -> None:
    """Serve recommendations and bids until SIGTERM or Ctrl-C; SIGHUP reads settings and artifact anew."""
    if find_spec("headrace._native") is None:
        hint = "install g++ and python3-dev, then install headrace again; headrace-train works without it"
        raise ConfigError("the compiled core headrace._native is not built", hint=hint)
    # Before NumPy is loaded: the workers are the threads, and fold-in's products are too small for more.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from headrace.config import Config, load_config
    from headrace.service.process import run

    given = {"artifact": artifact, "data": data, "listen": listen, "door": door, "insecure": insecure}
    flags = {"server": {key: value for key, value in given.items() if value is not None}}

    def read() -> Config:
        return load_config(config, flags)

    run(read(), read, say=lambda line: print(line, flush=True))


@app.command()
def version() -> None:
    """Print the version."""
    from headrace import __version__

    print(f"headrace {__version__}")


@app.command("config")
def show_config(file: ConfigFile = None) -> None:
    """Print every setting as TOML, as a server started here would see it."""
    from headrace.config import load_config, sections_of

    for section, values in sections_of(load_config(file)):
        print(f"[{section}]")
        for key, value in values.items():
            print(f"{key} = {json.dumps(value)}")
        print()


@app.command()
def health(
    at: At = DEFAULT_ADDRESS,
    service: Annotated[str, typer.Option(metavar="NAME", help="One service, such as headrace.v1.BidderService.")] = "",
    ca: Ca = "",
    certificate: Certificate = "",
) -> None:
    """Ask a server whether it is serving; exit 0 if so, else 1."""
    from headrace.client.health import check

    status = check(at, service, connection=connection(None, ca, certificate, ""))
    print(status)
    raise SystemExit(0 if status == "SERVING" else 1)


@app.command("reload")
def reload_artifact(
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Version to swap to [the published one].")] = "",
    config: Annotated[bool, typer.Option("--config", help="Read the configuration anew instead.")] = False,
    at: At = DEFAULT_ADDRESS,
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
) -> None:
    """Let a running server swap to another artifact, or read its configuration anew."""
    from headrace.client import Client

    with Client(at, connection(key_file, ca, certificate, tenant)) as client:
        if config:
            reloaded = client.reload_config()
            print(f"changed: {', '.join(reloaded.changed_keys) or 'nothing'}")
            if reloaded.waiting_keys:
                print(f"at the next start: {', '.join(reloaded.waiting_keys)}")
            return
        answer = client.reload_artifact(version)
    print(f"{'now serving' if answer.changed else 'already serving'} {answer.artifact.version}")


@app.command()
def erase(
    user_id: Annotated[str, typer.Option(metavar="ID", help="A known user.")] = "",
    anonymous_id: Annotated[str, typer.Option(metavar="ID", help="A browser or device.")] = "",
    at: At = DEFAULT_ADDRESS,
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
) -> None:
    """Let a running server forget a person, named by one of the two ids."""
    from headrace.client import Client

    with Client(at, connection(key_file, ca, certificate, tenant)) as client:
        answer = client.erase_person(user_id, anonymous_id=anonymous_id)
    print("erased" if answer.erased else "nothing was known of that person")


def main() -> None:
    """The entry point; errors meant for the reader are one line on stderr."""
    try:
        app()
    except HeadraceError as error:
        hint = NOT_REACHED if str(error).startswith("failed to connect") else ""
        print(f"headrace: {error}{hint}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, BAD_INPUT) else 1) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"headrace: {where}{error.strerror or error}; check its permissions and space", file=sys.stderr)
        raise SystemExit(1) from error
