"""What comes next, by what came next after the latest items: sparse item-item matrices and weights by age."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np
import scipy.sparse as sp

from headrace.types import Float32
from headrace_training.kernels.transitions import add_repeats, add_transitions, list_pairs
from headrace_training.models.base import Parameters, as_rows, degree_power, degrees
from headrace_training.models.servable import Layer, Servable
from headrace_training.models.spectral import nearest_items, spectral_factors
from headrace_training.sequences import Sequences
from headrace_training.space import Choice, Real, Space, Whole

MAX_AGES = 20
"""Older places of a prefix are not looked at."""

POPULARITY_SCALE = 1e-6
"""Of the popularity that orders what no transition reaches."""


@dataclass(frozen=True, kw_only=True)
class TransitionSettings:
    """What a TransitionModel is made of.

    max_lag          : pairs of places further apart do not count.
    lag_power        : a pair d places apart counts d ** -lag_power.
    half_life        : age, as a share of all rows, at which a row counts half; 0 for no ageing, as rows that are not in
                       time order must have.
    backward         : weight of a pair read against time.
    from_exponent    : power of the row sums that divides the counts.
    to_exponent      : power of the column sums that divides them.
    shrink           : added to the sums, in counts; rare items are trusted less.
    age_power        : the prefix item of age a (the last one has 0) counts (a + 1) ** -age_power.
    repeat           : what an item of the prefix gets for being there, 1 being the mean of the items' best transition.
    repeat_decay     : an item of age a gets repeat * repeat_decay ** a.
    spectral         : weight of the spectral neighbours, 0 for none; 1 as for repeat.
    spectral_age_power : their age_power.
    n_factors        : width of the spectral space.
    n_neighbours     : spectral neighbours kept an item; 8 bytes each.
    """

    max_lag: int = 10
    lag_power: float = 0.7
    half_life: float = 0.0
    backward: float = 0.6
    from_exponent: float = 0.7
    to_exponent: float = 0.1
    shrink: float = 3.0
    age_power: float = 1.0
    repeat: float = 0.0
    repeat_decay: float = 0.8
    spectral: float = 0.5
    spectral_age_power: float = 1.0
    n_factors: int = 128
    n_neighbours: int = 250
    seed: int = 0


class TransitionModel:
    """Directed transitions with weights by distance, age and recency, beside neighbours in a spectral item space."""

    name = "transitions"
    space: ClassVar[Space] = {
        "max_lag": Whole(1, 30, log=True),
        "lag_power": Real(0.0, 2.0),
        "half_life": Choice((0.0, 0.1, 0.25, 0.5, 1.0)),
        "backward": Real(0.0, 1.0),
        "from_exponent": Real(0.0, 1.0),
        "to_exponent": Real(0.0, 0.6),
        "shrink": Real(0.0, 100.0),
        "age_power": Real(0.0, 3.0),
        "repeat": Real(0.0, 3.0),
        "repeat_decay": Real(0.3, 1.0),
        "spectral": Real(0.0, 1.5),
        "spectral_age_power": Real(0.0, 3.0),
        "n_factors": Whole(32, 256, log=True),
    }

    def __init__(self, settings: TransitionSettings | None = None) -> None:
        self.settings = settings or TransitionSettings()
        self._parts = Parts(np.empty(0, dtype=np.float32), sp.csr_matrix((0, 0)), None)

    @property
    def parameters(self) -> Parameters:
        return asdict(self.settings)

    @property
    def n_items(self) -> int:
        return len(self._parts.popularity)

    def memory_bytes(self, train: Sequences) -> int:
        """About what fitting takes beside train: pairs and their sums, the spectral basis, the neighbours twice."""
        of_item = 20 * self.settings.n_factors + 28 * min(self.settings.n_neighbours, train.n_items)
        return 60 * number_of_pairs(train, self.settings.max_lag) + train.n_items * of_item

    def fit(self, train: Sequences) -> None:
        popularity = popularity_of(train)
        spectral = spectral_matrix(train, self.settings) if self.settings.spectral else None
        self._parts = Parts(popularity, transition_matrix(count_pairs(train, self.settings), self.settings), spectral)

    def scores(self, prefixes: Sequences, /) -> Float32:
        return answer(self.servable(), prefixes)

    def servable(self) -> Servable:
        """What the fitted model answers with; the matrices are not copied."""
        return assemble(self._parts, self.settings)


@dataclass(frozen=True)
class Parts:
    """What fitting makes: popularity, transitions and spectral neighbours (None without)."""

    popularity: Float32
    transitions: sp.csr_matrix
    spectral: sp.csr_matrix | None


def assemble(parts: Parts, settings: TransitionSettings) -> Servable:
    """Matrices with the weights of the settings; nothing of them is fitted again."""
    layers = [Layer(parts.transitions, age_weights(settings.age_power))]
    if parts.spectral is not None:
        weights = np.float32(settings.spectral) * age_weights(settings.spectral_age_power)
        layers.append(Layer(parts.spectral, weights))
    repeats = settings.repeat * settings.repeat_decay ** np.arange(MAX_AGES)
    return Servable(tuple(layers), repeats.astype(np.float32), parts.popularity)


def answer(servable: Servable, prefixes: Sequences) -> Float32:
    """Scores of all items, a row a prefix; (n, n_items) float32. A row is computed alone, in one fixed order."""
    out = np.empty((len(prefixes), len(servable.popularity)), dtype=np.float32)
    out[:] = servable.popularity
    for layer in servable.layers:
        add_transitions(as_rows(layer.matrix), prefixes.indptr, prefixes.items, layer.weights, out)
    add_repeats(prefixes.indptr, prefixes.items, servable.repeats, out)
    return out


def age_weights(power: float) -> Float32:
    """(MAX_AGES,) float32, (age + 1) ** -power."""
    return (np.arange(1.0, MAX_AGES + 1) ** -power).astype(np.float32)


def popularity_of(train: Sequences) -> Float32:
    """Share of all places times POPULARITY_SCALE; (n_items,) float32."""
    counts = np.bincount(train.items, minlength=train.n_items)
    return (POPULARITY_SCALE * counts / max(1, len(train.items))).astype(np.float32)


def count_pairs(train: Sequences, how: TransitionSettings) -> sp.csr_matrix:
    """Weighted counts of item j after item i; (n_items, n_items) float32 with sorted indices."""
    n = len(train)
    ages = np.arange(n, 0, -1) / max(n, 1)
    row_weights = (0.5 ** (ages / how.half_life) if how.half_life else np.ones(n)).astype(np.float32)
    lag_weights = (np.arange(1.0, how.max_lag + 1) ** -how.lag_power).astype(np.float32)
    total = number_of_pairs(train, how.max_lag)
    before, after = np.empty(total, dtype=np.int32), np.empty(total, dtype=np.int32)
    values = np.empty(total, dtype=np.float32)
    list_pairs(train.indptr, train.items, row_weights, lag_weights, before, after, values)
    return sp.csr_matrix((values, (before, after)), shape=(train.n_items, train.n_items))


def number_of_pairs(train: Sequences, max_lag: int) -> int:
    """Pairs of places of one row that are at most max_lag apart."""
    # of a row of m places, m - 1 pairs are neighbours, m - 2 two apart, …
    far = np.minimum(train.lengths, max_lag + 1)
    return int((far * (far - 1) // 2 + (train.lengths - far) * max_lag).sum())


def transition_matrix(counts: sp.csr_matrix, how: TransitionSettings) -> sp.csr_matrix:
    """Counts in both directions, divided by powers of their sums; the best of an item is 1 on average."""
    both = (counts + how.backward * counts.T).tocsr() if how.backward else counts
    row_sums, column_sums = degrees(both)
    left = degree_power(row_sums + how.shrink, how.from_exponent)
    right = degree_power(column_sums + how.shrink, how.to_exponent)
    return scaled((left @ both @ right).tocsr())


def spectral_matrix(train: Sequences, how: TransitionSettings) -> sp.csr_matrix:
    """Cosines to the nearest items in the spectral space of the symmetric counts, scaled alike."""
    counts = count_pairs(train, how)
    return scaled(
        nearest_items(spectral_factors((counts + counts.T).tocsr(), how.n_factors, how.seed), how.n_neighbours)
    )


def scaled(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The matrix divided by the mean of its rows' largest values, empty rows left out; float32, sorted indices."""
    matrix = matrix.astype(np.float32)
    matrix.sort_indices()
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if len(filled):
        matrix.data /= np.maximum.reduceat(matrix.data, matrix.indptr[filled]).mean()
    return matrix
