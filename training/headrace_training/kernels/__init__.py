"""Numba kernels that only training needs."""

from pathlib import Path

from headrace.compiled import keep_compiled

keep_compiled(Path(__file__).parent)
