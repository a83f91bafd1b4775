"""Numba kernels that only training needs."""
