"""Numba kernels, one file a duty; a jitted function calls only jitted functions of its own file."""
