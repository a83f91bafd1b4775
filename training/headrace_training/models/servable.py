"""What a next-item model answers with: sparse matrices, weights by age, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import scipy.sparse as sp

from headrace.types import Float32


@dataclass(frozen=True)
class Layer:
    """One item-item matrix and how much each latest item of a prefix draws on it.

    matrix  : (n_items, n_items) float32 CSR, from the prefix item's row to the scored item's column.
    weights : (ages,) float32, of the last item first.
    """

    matrix: sp.csr_matrix
    weights: Float32


@dataclass(frozen=True)
class Servable:
    """All that an answer needs.

    The score of item j is the sum over layers and over the distinct items i of the prefix, each at its last place, of
    weights[age of i] * matrix[i, j]; plus repeats[age] for every place where the prefix holds j; plus popularity[j].

    repeats : (ages,) float32.   popularity : (n_items,) float32, too small to change the order of what is reached.
    """

    layers: tuple[Layer, ...]
    repeats: Float32
    popularity: Float32
