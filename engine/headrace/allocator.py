"""The C library's allocator, told to keep a long-running server's memory level."""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
"""Of mallopt(3)."""

ARENAS = 2
KEEP_BYTES = 8 << 20
LARGE_BYTES = 1 << 20

_libc = ctypes.CDLL(None)


def keep_level() -> None:
    """Large blocks go back to the system when they are freed, and all threads share two arenas.

    By itself glibc gives each thread an arena of its own, and takes blocks of up to 32 MB from it once one of that
    size was freed: what lives on then holds more and more holes apart. Does nothing where the C library is another
    one, or where a ``MALLOC_…`` variable says how it shall be.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or not hasattr(_libc, "mallopt"):
        return
    for option, value in ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, LARGE_BYTES), (_TRIM_THRESHOLD, KEEP_BYTES)):
        _libc.mallopt(option, value)


def give_back() -> None:
    """Hand free memory back to the system, as after an artifact was built and another one let go."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
