"""`headrace-train ingest`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import ConfigError, DataError
from headrace_training.commands.output import put
from headrace_training.ingest import Ingester, Summary, check_files, open_log
from headrace_training.mapping import read_mapping
from headrace_training.progress import say

Text = Annotated[str | None, typer.Option()]


def ingest(
    files: Annotated[list[Path], typer.Argument(help="CSV (also .gz), TSV or Parquet files of events.")],
    log: Annotated[Path, typer.Option(help="Folder of the event log; created when absent.")],
    mapping: Annotated[Path | None, typer.Option(help="TOML file that says what the columns mean.")] = None,
    user_column: Text = None,
    item_column: Text = None,
    time_column: Text = None,
    type_column: Text = None,
    quantity_column: Text = None,
    price_column: Text = None,
    channel_column: Text = None,
    event_id_column: Text = None,
    default_type: Annotated[str | None, typer.Option(help="Type of rows without one; purchase.")] = None,
    default_channel: Annotated[str | None, typer.Option(help="Channel of rows without one.")] = None,
    time_format: Annotated[str | None, typer.Option(help="strptime format; ISO 8601 or numbers without it.")] = None,
    time_unit: Annotated[str | None, typer.Option(help="Of bare numbers: auto, s, ms or us.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Of times that do not name one; UTC.")] = None,
    returns: Annotated[str | None, typer.Option(help="Negative quantities: return, error or drop.")] = None,
    missing_user: Annotated[str | None, typer.Option(help="Rows without a user: drop or error.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that is no event.")] = False,
    rejects: Annotated[
        Path | None, typer.Option(help="CSV file for the rows that are no events, with reasons.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Read files of events into the event log; what is in the log already is counted and changes nothing."""
    names = ("user", "item", "time", "type", "quantity", "price", "channel", "event_id")
    given = locals()
    overrides = {f"{name}_column": given[f"{name}_column"] for name in names}
    options = ("default_type", "default_channel", "time_format", "time_unit", "timezone", "returns", "missing_user")
    overrides |= {name: given[name] for name in options}
    settings = read_mapping(mapping, overrides)
    # before the log is made: a wrong name leaves no empty log behind
    check_files(files, settings)
    if rejects is not None and not rejects.parent.is_dir():
        raise ConfigError(f"--rejects {rejects}: its folder does not exist", hint="make the folder first")
    event_log = open_log(log, create=True)
    try:
        summary = Ingester(event_log, settings, strict=strict, rejects=rejects).run(files)
    finally:
        event_log.store.close()
    _mention_rejected(summary)
    put(summary.report(), json)


def _mention_rejected(summary: Summary) -> None:
    """A warning when rows were rejected; DataError when none is left, since then the mapping is wrong, not the rows."""
    n_rejected = sum(summary.rejected.values())
    hint = "--rejects FILE lists them"
    if n_rejected and n_rejected == summary.rows:
        reason, _ = summary.rejected.most_common(1)[0]
        raise DataError(f"none of the {summary.rows} rows is an event: {reason}", hint=hint)
    if n_rejected:
        say(f"warning: {n_rejected} of {summary.rows} rows rejected; {hint}")
