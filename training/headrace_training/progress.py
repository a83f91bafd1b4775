"""What goes on, told on stderr: a moving bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

T = TypeVar("T")

LINE_SECONDS = 5.0
"""Time between two plain lines of one piece of work."""


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=sys.stderr, flush=True)


def track(parts: Iterable[T], text: str, total: int | None = None) -> Iterator[T]:
    """Pass the parts on and show how many are done."""
    if sys.stderr.isatty():
        yield from _bar(parts, text, total)
        return
    last = time.monotonic()
    for number, part in enumerate(parts, start=1):
        yield part
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            say(f"{text}: {number}" + (f" of {total}" if total else ""))


def _bar(parts: Iterable[T], text: str, total: int | None) -> Iterator[T]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(text, total=total)
        for part in parts:
            yield part
            progress.advance(task)
