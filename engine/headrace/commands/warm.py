"""``headrace warm``."""

from __future__ import annotations


def warm() -> None:
    """Compile every kernel now, about 30 s, so that no start has to: for the building of images."""
    from headrace.service.warm import warm as compile_kernels

    print("compiling kernels, about 30 s the first time", flush=True)
    compile_kernels()
    print("compiled")
