"""``headrace migrate``."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.commands.options import DEFAULT_DATA, Data


def migrate(
    data: Data = DEFAULT_DATA,
    to: Annotated[int | None, typer.Option("--to", metavar="VERSION", help="Schema version [the latest].")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Go back even where rows are lost.")] = False,
) -> None:
    """Bring the database of a stopped server to another schema version, forward or back, after a copy."""
    from headrace.events.migrations import LATEST
    from headrace.operations.schema import move, plan

    target = LATEST if to is None else to
    if dry_run:
        todo = plan(data, target)
        print(f"schema version {todo.version} to {todo.target}, {todo.n_lost} rows lost")
        for title in todo.titles:
            print(f"  {title}")
        return
    done, copy = move(data, target, force=force)
    print(f"schema version {done.target}" if copy is None else f"schema version {done.target}; {copy} is how it was")
