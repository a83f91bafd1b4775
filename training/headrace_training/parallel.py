"""Independent pieces of work on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def in_threads(work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> list[Result]:
    """``work`` of each piece, in the order of the pieces; it must release the GIL to gain anything."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), "headrace-train") as pool:
        return list(pool.map(work, pieces))
