"""Numba kernels, one file a duty; a jitted function calls only jitted functions of its own file."""

from pathlib import Path

from headrace.compiled import keep_compiled

keep_compiled(Path(__file__).parent)
