"""Made-up item factors that look like trained ones: clusters, and a spectrum that falls off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def mixture(n: int, d: int = 64, *, clusters: int = 1000, seed: int = 0) -> npt.NDArray[np.float32]:
    """(n, d) float32 factors from a mixture of Gaussians with power-law cluster sizes and a power-law spectrum.

    Axis j has standard deviation (j + 1) ** -0.5; cluster centres take two thirds of the variance; cluster sizes fall
    off as rank ** -0.8. Written in slices, so that no second copy of the matrix is made.
    """
    rng = np.random.default_rng(seed)
    spectrum = ((np.arange(d) + 1.0) ** -0.5).astype(np.float32)
    centres = rng.normal(size=(clusters, d)).astype(np.float32) * spectrum * np.float32((2 / 3) ** 0.5)
    sizes = (np.arange(clusters) + 1.0) ** -0.8
    out = np.empty((n, d), dtype=np.float32)
    for first in range(0, n, 100_000):
        some = out[first : first + 100_000]
        rng.standard_normal(out=some, dtype=np.float32)
        some *= spectrum * np.float32((1 / 3) ** 0.5)
        some += centres[rng.choice(clusters, len(some), p=sizes / sizes.sum())]
    return out


def queries_and_items(
    n: int, n_queries: int, d: int = 64, *, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """People's factors (n_queries, d) and items' (n, d), of one mixture: nobody's factors are an item's."""
    both = mixture(n + n_queries, d, seed=seed)
    return both[n:].copy(), both[:n]
