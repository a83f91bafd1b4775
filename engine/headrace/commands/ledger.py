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
from headrace.errors import InvalidRequestError

if TYPE_CHECKING:
    from headrace.audit.auditor import Audit
    from headrace.audit.trail import Trail

WINDOW_MS = 30 * 24 * 3600 * 1000

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Audit, certify, reconcile and export the ledger.")
app.command()(reconcile)

Journal = Annotated[
    Path | None, typer.Option("--journal", metavar="DIR", help="An export of the ledger to read instead of --data.")
]
Folder = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Folder of the database and the ledger [headrace-data].")
]
Against = Annotated[
    list[Path] | None,
    typer.Option("--against", metavar="FILE", help="An earlier audit or certificate (--json) whose digest must hold."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Window = Annotated[
    int, typer.Option("--window-ms", metavar="MS", help="What is reserved for longer is stranded [billing_window_ms].")
]


@app.command("audit")
def audit_ledger(
    data: Folder = None,
    journal: Journal = None,
    against: Against = None,
    window_ms: Window = WINDOW_MS,
    as_json: AsJson = False,
) -> None:
    """Recompute every balance from the journal and compare it with what the ledger states; exit 1 on a difference."""
    from headrace.audit.statement import statement, text_of

    with _audited(data, journal, against) as (found, _, ledger_id):
        said = statement(found, ledger_id, _now_ms() - window_ms)
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
    against: Against = None,
    window_ms: Window = WINDOW_MS,
    as_json: AsJson = False,
) -> None:
    """Certify what campaigns spent, overspent and hold; exit 1 where the journal does not bear it out."""
    from headrace.audit.certificate import as_dict, certify, text_of
    from headrace.audit.merge import merge

    parts = []
    folders: list[Path | None] = [*data] if data else [None]
    for folder in folders:
        with _audited(folder, journal, against) as (found, trail, ledger_id):
            parts.append(certify(found, trail.late_bills(), ledger_id, _now_ms() - window_ms, campaign))
    made = merge(parts)
    print(json.dumps(as_dict(made)) if as_json else text_of(made))
    raise SystemExit(1 if made.differences or any(entry.over_micros for entry in made.accounts) else 0)


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Folder of the export, made or gone on with.")],
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
def _audited(data: Path | None, journal: Path | None, against: list[Path] | None) -> Iterator[tuple[Audit, Trail, str]]:
    """An audit, what it was made from, and the ledger's id; beside a store, compared with the engine's own reading."""
    from headrace.audit.anchors import read_anchors
    from headrace.audit.auditor import audit
    from headrace.audit.export import ledger_id_of
    from headrace.audit.slots import adopt, read_slots
    from headrace.audit.stated import compare_engine
    from headrace.audit.tables import compare_tables
    from headrace.audit.trail import ExportTrail, open_store
    from headrace.events.store import DATABASE

    if journal is not None and data is not None:
        raise InvalidRequestError("--journal", str(journal), "one of --data and --journal", "audit them one by one")
    if journal is not None:
        exported = ExportTrail(journal)
        ledger_id = str(exported.manifest["ledger_id"])
        found = audit(exported, read_anchors(against or [], ledger_id))
        compare_tables(found, exported)
        yield found, exported, ledger_id
        return
    folder = data or DEFAULT_DATA
    slots = read_slots(folder)
    with open_store(folder / DATABASE) as trail:
        ledger_id = ledger_id_of(trail)
        found = audit(trail, read_anchors(against or [], ledger_id))
        compare_engine(found, trail, _now_ms())
        compare_tables(found, trail)
        adopt(found, trail, slots)
        yield found, trail, ledger_id


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
