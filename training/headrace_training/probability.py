"""The chance that a person buys an item within some days: logistic regression, then isotonic calibration.

Labels are of a later time than the factors, the calibration of a still later one. Features come from the kernel that
serving calls. All items that a person touched are in the sample; of the others only some, weighted accordingly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.special

from headrace.kernels.predict import N_FEATURES, purchase_features, purchase_probability
from headrace.types import Float32, Float64, Int32, Int64
from headrace_training.history import History

MAX_PERSONS = 20_000
RANDOM_ITEMS = 64
"""Items drawn for each person among all items."""
RIDGE = 1e-3
MAX_KNOTS = 50
PURCHASES_A_KNOT = 20


@dataclass(frozen=True)
class Sample:
    """n (person, item) rows: features (n, 6) float32, labels (n,) float64 of 0 and 1, weights (n,) float64."""

    features: Float32
    labels: Float64
    weights: Float64


@dataclass(frozen=True)
class ProbabilityModel:
    """P(purchase) = piecewise linear (knots) of features · weights + bias; dtypes as in an artifact."""

    weights: Float32
    bias: float
    calibration_x: Float64
    calibration_y: Float64

    def predict(self, features: Float32) -> Float64:
        """Probabilities of n rows, (n,) float64."""
        out = np.empty(len(features))
        purchase_probability(features, self.weights, self.bias, self.calibration_x, self.calibration_y, out)
        return out


@dataclass(frozen=True)
class Moment:
    """What is known at a moment: histories, a purchase's weight, factors (users (n, d), items (m, d)), popularity."""

    now_ms: int
    history: History
    user_factors: Float32
    item_factors: Float32
    popularity: Float32
    purchase_weight: float


def draw_sample(moment: Moment, bought_later: sp.csr_matrix, rng: np.random.Generator) -> Sample:
    """Rows of people with a history at the moment, labelled by what they bought afterwards.

    bought_later : (n_users, n_items), what is stored was bought in the label slice.
    """
    users = np.flatnonzero(np.diff(moment.history.indptr))
    users = np.sort(rng.permutation(users)[:MAX_PERSONS])
    n_items = moment.history.n_items
    touched = moment.history.confidence(1.0)[users]
    later = bought_later[users]
    sure = ((touched != 0) + (later != 0)).tocoo()
    sure_keys = sure.row.astype(np.int64) * n_items + sure.col
    n_drawn = min(RANDOM_ITEMS, n_items)
    drawn = (np.arange(len(users))[:, None] * n_items + rng.integers(0, n_items, (len(users), n_drawn))).ravel()
    # a drawn pair that is in the sample for sure would count twice
    drawn = np.setdiff1d(drawn, sure_keys)
    others = np.full(len(users), n_items, dtype=np.float64) - np.bincount(sure.row, minlength=len(users))
    n_of_user = np.bincount(drawn // n_items, minlength=len(users))
    keys = np.concatenate([sure_keys, drawn])
    rows, items = keys // n_items, (keys % n_items).astype(np.int32)
    weights = np.ones(len(keys))
    weights[len(sure_keys) :] = (others / np.maximum(n_of_user, 1))[drawn // n_items]
    labels = _lookup(later, rows, items) > 0
    return Sample(pair_features(moment, users[rows], items), labels.astype(np.float64), weights)


def pair_features(moment: Moment, users: Int64, items: Int32) -> Float32:
    """Features of (person, item) rows at the moment, by the serving kernel; (n, 6) float32."""
    n_events, last_event = moment.history.person_totals()
    dots = np.einsum("ij,ij->i", moment.user_factors[users], moment.item_factors[items])
    out = np.empty((len(users), N_FEATURES), dtype=np.float32)
    purchase_features(
        np.ascontiguousarray(dots, dtype=np.float32),
        np.ascontiguousarray(moment.popularity[items]),
        n_events[users],
        np.rint(_lookup(moment.history.bought(), users, items)).astype(np.int64),
        _lookup(moment.history.last_purchase_ms(), users, items).astype(np.int64),
        last_event[users],
        np.full(len(users), moment.now_ms, dtype=np.int64),
        out,
    )
    return out


def _lookup(matrix: sp.csr_matrix, rows: Int64, columns: Int32) -> Float64:
    """Values at positions, 0 where nothing is stored."""
    matrix = matrix.tocsr()
    matrix.sort_indices()
    n_columns = matrix.shape[1]
    stored = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr)) * n_columns + matrix.indices
    wanted = rows.astype(np.int64) * n_columns + columns
    place = np.minimum(np.searchsorted(stored, wanted), max(0, len(stored) - 1))
    if not len(stored):
        return np.zeros(len(wanted))
    return np.where(stored[place] == wanted, matrix.data[place], 0)


def fit_logistic(sample: Sample) -> tuple[Float32, float]:
    """Weights of the raw features and bias of a ridge logistic regression, by Newton's method.

    Features are standardised for the fit only; the ridge is 1e-3 of the total weight. A sample without both labels
    gives weights of 0 and the bias of half a purchase.
    """
    x, y, w = sample.features.astype(np.float64), sample.labels, sample.weights
    total, positive = w.sum(), (w * y).sum()
    rate = (positive + 0.5) / (total + 1.0)
    if not len(y) or y.min() == y.max():
        return np.zeros(N_FEATURES, dtype=np.float32), float(scipy.special.logit(rate))
    mean = (w @ x) / total
    spread = np.sqrt(w @ (x - mean) ** 2 / total)
    spread = np.where(spread > 1e-9, spread, 1.0)
    design = np.column_stack([(x - mean) / spread, np.ones(len(y))])
    theta = np.zeros(N_FEATURES + 1)
    theta[-1] = scipy.special.logit(rate)
    ridge = np.diag([*([RIDGE * positive] * N_FEATURES), 0.0])
    for _ in range(50):
        p = scipy.special.expit(design @ theta)
        gradient = design.T @ (w * (p - y)) + ridge @ theta
        hessian = design.T @ (design * (w * p * (1 - p))[:, None]) + ridge
        step = np.linalg.solve(hessian + 1e-9 * np.eye(len(theta)), gradient)
        # a step of more than 4 on a standardised feature is a sign of separation
        theta -= step * min(1.0, 4.0 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    weights = theta[:-1] / spread
    return weights.astype(np.float32), float(theta[-1] - weights @ mean)


def calibrate(scores: Float64, labels: Float64, weights: Float64) -> tuple[Float64, Float64]:
    """Knots of a non-decreasing piecewise linear map from score to probability.

    Bins with about as many purchases each, then pool adjacent violators (Ayer et al., 1955). x strictly ascends.
    """
    order = np.argsort(scores, kind="stable")
    scores, labels, weights = scores[order], labels[order], weights[order]
    # half of each purchase's worth goes by total weight, so that the low end has bins of its own
    mass = np.cumsum(weights * labels) / max((weights * labels).sum(), 1e-12)
    mass = (mass + np.cumsum(weights) / weights.sum()) / 2
    n_bins = int(np.clip(labels.sum() / PURCHASES_A_KNOT, 1, MAX_KNOTS))
    bins = np.minimum((mass * n_bins).astype(np.int64), n_bins - 1)
    bin_weight = np.bincount(bins, weights=weights, minlength=n_bins)
    used = bin_weight > 0
    x = np.bincount(bins, weights=weights * scores, minlength=n_bins)[used] / bin_weight[used]
    purchases = np.bincount(bins, weights=weights * labels, minlength=n_bins)[used]
    # half a purchase where none was seen: rare is not impossible
    y = np.maximum(purchases, 0.5) / bin_weight[used]
    y = pool_adjacent_violators(y, bin_weight[used].astype(np.float64))
    keep = np.concatenate([[True], np.diff(x) > 1e-9])
    return x[keep], np.clip(y[keep], 0.0, 1.0)


def pool_adjacent_violators(values: Float64, weights: Float64) -> Float64:
    """The nearest non-decreasing sequence in weighted least squares; (n,) float64."""
    level: list[float] = []
    weight: list[float] = []
    size: list[int] = []
    for value, share in zip(values.tolist(), weights.tolist(), strict=True):
        level.append(value)
        weight.append(share)
        size.append(1)
        while len(level) > 1 and level[-2] > level[-1]:
            both = weight[-2] + weight[-1]
            level[-2:] = [(level[-2] * weight[-2] + level[-1] * weight[-1]) / both]
            weight[-2:] = [both]
            size[-2:] = [size[-2] + size[-1]]
    return np.repeat(level, size)


def fit_probability(labelled: Sample, later: Sample) -> ProbabilityModel:
    """Regression on one slice, calibration on a later one."""
    weights, bias = fit_logistic(labelled)
    scores = later.features.astype(np.float64) @ weights.astype(np.float64) + bias
    x, y = calibrate(scores, later.labels, later.weights)
    return ProbabilityModel(weights, bias, x, y)


def calibration_report(model: ProbabilityModel, sample: Sample, n_bins: int = 10) -> dict[str, float]:
    """Expected and actual purchases of a held-out sample, and the expected calibration error.

    The error is the mean over bins of |mean probability - share bought|, bins of equal expected purchases, weighted by
    pairs; relative_error is the same in purchases over the actual ones.
    """
    bins, p, w, y = _bins(model, sample, n_bins)
    gaps = np.abs(np.bincount(bins, weights=w * p) - np.bincount(bins, weights=w * y))
    actual = float((w * y).sum())
    return {
        "calibration_expected_purchases": float((w * p).sum()),
        "calibration_actual_purchases": actual,
        "calibration_ece": float(gaps.sum() / w.sum()),
        "calibration_relative_error": float(gaps.sum() / max(actual, 1.0)),
    }


def reliability(model: ProbabilityModel, sample: Sample, n_bins: int = 10) -> list[tuple[float, float]]:
    """(mean probability, share that bought) of bins of equal expected purchases, ascending; empty bins left out."""
    bins, p, w, y = _bins(model, sample, n_bins)
    weight, expected, actual = (np.bincount(bins, weights=values) for values in (w, w * p, w * y))
    there = weight > 0
    pairs = zip((expected[there] / weight[there]).tolist(), (actual[there] / weight[there]).tolist(), strict=True)
    return list(pairs)


def _bins(model: ProbabilityModel, sample: Sample, n_bins: int) -> tuple[Int64, Float64, Float64, Float64]:
    """The bin of each row, its probability, weight and label, by ascending probability."""
    p = model.predict(sample.features)
    order = np.argsort(p, kind="stable")
    p, w, y = p[order], sample.weights[order], sample.labels[order]
    expected = np.cumsum(w * p)
    bins = np.minimum((expected / max(expected[-1], 1e-12) * n_bins).astype(np.int64), n_bins - 1)
    return bins, p, w, y
