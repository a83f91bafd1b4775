"""The server's allocator: large blocks go back when they are freed, unless the operator wants it otherwise."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

MAPPED = """
import ctypes
from headrace.allocator import give_back, keep_level

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
keep_level()
libc.free(libc.malloc(24 << 20))
block = libc.malloc(16 << 20)
heap = int([line for line in open("/proc/self/maps") if "[heap]" in line][0].split()[0].split("-")[0], 16)
end = int([line for line in open("/proc/self/maps") if "[heap]" in line][0].split()[0].split("-")[1], 16)
print("heap" if heap <= block < end else "mapped")
libc.free(block)
give_back()
"""


def where_a_large_block_lies(**environment: str) -> str:
    found = subprocess.run(
        [sys.executable, "-c", MAPPED], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return found.stdout.strip()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_large_blocks_go_back_to_the_system_even_after_one_was_freed() -> None:
    assert where_a_large_block_lies() == "mapped"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
def test_what_the_operator_says_of_the_allocator_wins() -> None:
    assert where_a_large_block_lies(MALLOC_MMAP_THRESHOLD_="33554432") == "heap"
