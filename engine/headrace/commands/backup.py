"""``headrace backup``, ``headrace restore`` and ``headrace fence``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.options import (
    DEFAULT_ADDRESS,
    DEFAULT_DATA,
    At,
    Ca,
    Certificate,
    Data,
    KeyFile,
    Tenant,
    connection,
)
from headrace.errors import InvalidRequestError


def backup(
    to: Annotated[
        Path, typer.Option("--to", metavar="DIR", help="Folder to make; with --keep, one that holds several.")
    ],
    data: Data = DEFAULT_DATA,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", help="Make one named after the time and keep the newest N.")
    ] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the backup that is there.")] = False,
) -> None:
    """Copy a data folder, while a server runs on it or not, and verify the copy."""
    from headrace.operations.backup import back_up, back_up_and_keep, verify

    if keep:
        to = back_up_and_keep(data, to, keep)
        manifest = verify(to)
    else:
        manifest = back_up(data, to, overwrite=overwrite)
    size = sum(file.n_bytes for file in manifest.files.values())
    print(f"{to}: {size / 1e6:.1f} MB, verified, events up to {max(manifest.event_sequence, 0)}")


def restore(
    backup: Annotated[Path, typer.Option("--from", metavar="DIR", help="A backup.")],
    data: Data = DEFAULT_DATA,
    move_old: Annotated[
        bool, typer.Option("--move-old", help="Where the data folder is not empty, keep it under another name.")
    ] = False,
) -> None:
    """Make a data folder of a backup; its ledger bids once the fence is lifted."""
    from headrace.operations.restore import restore as restore_backup

    restored = restore_backup(backup, data, move_old=move_old)
    if restored.moved_to is not None:
        print(f"the old folder is {restored.moved_to}")
    print(f"{data} is restored and fenced: start the server, reconcile, then headrace fence --lift --reason …")


def fence(
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the audit.")],
    engage: Annotated[bool, typer.Option("--engage", help="Stop bidding.")] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Let bidding on again.")] = False,
    at: At = DEFAULT_ADDRESS,
    key_file: KeyFile = None,
    ca: Ca = "",
    certificate: Certificate = "",
    tenant: Tenant = "",
) -> None:
    """Stop a running server's ledger from bidding, or let it bid again."""
    from headrace.client import Client

    if engage == lift:
        raise InvalidRequestError("--engage and --lift", (engage, lift), "one of the two")
    with Client(at, connection(key_file, ca, certificate, tenant)) as client:
        client.set_fence(engaged=engage, reason=reason)
    print("fenced: no bids" if engage else "the fence is lifted")
