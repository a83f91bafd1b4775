"""``headrace ledger …``: the money ledger's proof."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.commands.options import DEFAULT_DATA, Data
from headrace.commands.reconcile import reconcile

if TYPE_CHECKING:
    from headrace.audit.auditor import Audit
    from headrace.audit.trail import Trail

WINDOW_MS = 30 * 24 * 3600 * 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Audit, certify, reconcile and export the ledger.")
app.command()(reconcile)

Journal = Annotated[
    Path | None, typer.Option("--journal", metavar="DIR", help="An export of the ledger to read instead of --data.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Window = Annotated[
    int, typer.Option("--window-ms", metavar="MS", help="What is reserved for longer is stranded [billing_window_ms].")
]


@app.command("audit")
def audit_ledger(
    data: Data = DEFAULT_DATA, journal: Journal = None, window_ms: Window = WINDOW_MS, as_json: AsJson = False
) -> None:
    """Recompute every balance from the journal and compare it with what the ledger states; exit 1 on a difference."""
    from headrace.audit.statement import statement, text_of

    with _audited(data, journal) as (found, _, _):
        said = statement(found, _now_ms() - window_ms)
    print(json.dumps(said) if as_json else text_of(said))
    raise SystemExit(1 if found.differences else 0)


@app.command()
def certificate(
    campaign: Annotated[
        str, typer.Option("--campaign", metavar="ID", help="advertiser/campaign, or an advertiser [all].")
    ] = "",
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", metavar="DIR", help="Folder of the database; of each process over one authority."),
    ] = None,
    journal: Journal = None,
    window_ms: Window = WINDOW_MS,
    as_json: AsJson = False,
) -> None:
    """Certify what campaigns spent, overspent and hold; exit 1 where the journal does not bear it out."""
    from headrace.audit.certificate import as_dict, certify, text_of
    from headrace.audit.merge import merge

    parts = []
    for folder in [DEFAULT_DATA] if journal is not None else data or [DEFAULT_DATA]:
        with _audited(folder, journal) as (found, trail, ledger_id):
            parts.append(certify(found, trail.late_bills(), ledger_id, _now_ms() - window_ms, campaign))
    made = merge(parts)
    print(json.dumps(as_dict(made)) if as_json else text_of(made))
    raise SystemExit(1 if made.differences or any(entry.over_micros for entry in made.accounts) else 0)


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the export, to begin or to go on with.")],
    data: Data = DEFAULT_DATA,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="ISO 8601: journal rows from then on, of a new export [all].")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Write the ledger as Parquet files, or what is new since the last time; the server may run meanwhile."""
    from headrace.audit.export import export as write
    from headrace.audit.times import time_ms
    from headrace.audit.trail import open_store
    from headrace.events.store import DATABASE

    with open_store(data / DATABASE) as trail:
        manifest = write(trail, to, time_ms("--since", since) if since else 0)
    first, last = manifest["first_sequence"], manifest["last_sequence"]
    said = f"{to}: journal rows {first} to {last} in {len(manifest['journal'])} segments"
    print(json.dumps(manifest) if as_json else said)


@contextmanager
def _audited(data: Path, journal: Path | None) -> Iterator[tuple[Audit, Trail, str]]:
    """An audit, what it was made from, and the ledger's id; beside a store, compared with the engine's own reading."""
    from headrace.audit.auditor import audit, balances, compare_stated
    from headrace.audit.export import ledger_id_of
    from headrace.audit.trail import ExportTrail, open_reservations, open_store
    from headrace.events.store import DATABASE

    if journal is not None:
        exported = ExportTrail(journal)
        yield audit(exported), exported, str(exported.manifest["ledger_id"])
        return
    from headrace.audit.stated import stated_by_engine

    with open_store(data / DATABASE) as trail:
        found = audit(trail)
        compare_stated(found, stated_by_engine(trail, _now_ms()), balances(found, 0), "the engine")
        slots = open_reservations(data / "ledger.reservations", trail.query)
        if slots is not None:
            found.recount.adopt(slots)
        yield found, trail, ledger_id_of(trail)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
