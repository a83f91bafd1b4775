"""`headrace-train`: ingest events, fit, look, publish, roll back, evaluate, compare, search."""

from __future__ import annotations

import sys
import traceback

import typer

from headrace.errors import (
    ArtifactError,
    ArtifactRejectedError,
    ConfigError,
    DataError,
    HeadraceError,
    InvalidRequestError,
)
from headrace_training.commands import compare, evaluate, fit, ingest, offpolicy, regret, replay, rerun, search, store

BAD_INPUT = (ArtifactError, ConfigError, DataError, InvalidRequestError)
"""Errors for which the command ends with 2; ArtifactRejectedError is no matter of input."""

app = typer.Typer(
    name="headrace-train",
    help="Train Headrace: events in, a published artifact out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("ingest")(ingest.ingest)
app.command("fit")(fit.fit)
app.command("list")(store.list_versions)
app.command("show")(store.show)
app.command("publish")(store.publish)
app.command("rollback")(store.rollback)
app.command("evaluate")(evaluate.evaluate)
app.command("search")(search.search)
app.command("compare")(compare.compare)
app.command("offpolicy")(offpolicy.offpolicy)
app.command("replay")(replay.replay)
app.command("rerun")(rerun.rerun)
app.command("regret")(regret.regret)


def main() -> None:
    """Run the command line: exit code 0 on success, 2 on bad input or usage, 1 otherwise; errors go to stderr."""
    try:
        app()
    except HeadraceError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; check the path, its permissions and space", file=sys.stderr)
        sys.exit(1)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def exit_code(error: HeadraceError) -> int:
    """2 when the caller can mend it by other input, else 1."""
    return 2 if isinstance(error, BAD_INPUT) and not isinstance(error, ArtifactRejectedError) else 1
