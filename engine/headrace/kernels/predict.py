"""From a (person, item, moment) to the probability of a purchase; training and serving both call these kernels."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.kernels.history import Merged
from headrace.types import Float32, Float64, Int32, Int64, UInt32

N_FEATURES = 6
_MS_PER_DAY = 86_400_000.0
_CAP_DAYS = 365.0


class Model(NamedTuple):
    """The trained part of the probability.

    item_factors : (n_items, d) float32.   popularity : (n_items,) float32.   weights : (6,) float32.   bias : scalar.
    frequency : (n_items,) float32 of `item_frequencies`.
    calib_x, calib_y : (k,) float64 knots, as of `purchase_probability`.
    """

    item_factors: Float32
    popularity: Float32
    frequency: Float32
    weights: Float32
    bias: float
    calib_x: Float64
    calib_y: Float64


class Persons(NamedTuple):
    """What is known of n persons; a stranger has zeros and an empty row.

    embeddings : (n, d) float32.   history : their histories, as `headrace.state.users` gathers them.
    banned : (n_rows,) uint32, not 0 for items that may not be shown.
    subject_keys : (n,) int64 of the event log, 0 for strangers; or empty.   sequence : the last event seen.
    """

    embeddings: Float32
    history: Merged
    banned: UInt32
    subject_keys: Int64 = np.zeros(0, np.int64)
    sequence: int = 0


class Candidates(NamedTuple):
    """Line items that compete for n requests, and what they promote.

    indptr : (n + 1,) int64. Request r's candidates are ``lines[indptr[r]:indptr[r + 1]]``.   lines : (c,) int32.
    item_indptr : (m + 1,) int64. Line item l promotes ``items[item_indptr[l]:item_indptr[l + 1]]``.
    items : int32 item rows; -1 for an item that nobody knows.
    """

    indptr: Int64
    lines: Int32
    item_indptr: Int64
    items: Int32


class Table(NamedTuple):
    """What the score needs of the promoted items; the one at a place of ``Candidates.items`` has row ``rows[place]``.

    factors : (t, d) float32.   frequency : (t,) float32, as of `Model`.
    rows : int32, one for each of ``Candidates.items``; outside of 0 … t - 1 for an item that the model does not know.
    """

    factors: Float32
    frequency: Float32
    rows: Int32


@njit(nogil=True, cache=True)
def _months_since(last_ms: int, now_ms: int) -> float:
    if last_ms <= 0:
        return _CAP_DAYS / 30.0
    days = (now_ms - last_ms) / _MS_PER_DAY
    return min(max(days, 0.0), _CAP_DAYS) / 30.0


@njit(nogil=True, cache=True)
def purchase_features(
    dots: Float32,
    popularity: Float32,
    n_events: Int64,
    n_bought: Int64,
    last_purchase_ms: Int64,
    last_event_ms: Int64,
    now_ms: Int64,
    out: Float32,
) -> None:
    """Fill the six features of n (person, item, moment) rows.

    Columns: factor dot product; log1p(popularity * 1e6); log1p(events of the person); log1p(purchases of the item by
    the person); thirtieths of days since their last purchase of it; the same since their last event. Days are
    clipped to 0…365; a time of 0 is "never" and counts as 365 days.

    dots, popularity : (n,) float32. Product of person's and item's factors; share of recent interactions, >= 0.
    n_events, n_bought : (n,) int64 or float32, >= 0.
    last_purchase_ms, last_event_ms, now_ms : (n,) int64, ms since 1970 UTC.
    out : (n, 6) float32, written in full.
    """
    for row in range(dots.shape[0]):
        out[row, 0] = dots[row]
        out[row, 1] = math.log1p(popularity[row] * 1e6)
        out[row, 2] = math.log1p(n_events[row])
        out[row, 3] = math.log1p(n_bought[row])
        out[row, 4] = _months_since(last_purchase_ms[row], now_ms[row])
        out[row, 5] = _months_since(last_event_ms[row], now_ms[row])


@njit(nogil=True, cache=True)
def _calibrate(score: float, calib_x: Float64, calib_y: Float64) -> float:
    # a score that is not a number says nothing, so it is worth nothing
    if not math.isfinite(score):
        return 0.0
    last = calib_x.shape[0] - 1
    if score <= calib_x[0]:
        return float(calib_y[0])
    if score >= calib_x[last]:
        return float(calib_y[last])
    right = np.searchsorted(calib_x, score, side="right")
    left = right - 1
    share = (score - calib_x[left]) / (calib_x[right] - calib_x[left])
    return float(calib_y[left] + share * (calib_y[right] - calib_y[left]))


@njit(nogil=True, cache=True)
def purchase_probability(
    features: Float32, weights: Float32, bias: float, calib_x: Float64, calib_y: Float64, out: Float64
) -> None:
    """Calibrated probability that the person buys the item within the model's horizon.

    Row i is calibrate(features[i] @ weights + bias), summed in float64; calibrate is linear between the knots and
    constant outside them. A score that is not finite gives 0.

    features : (n, 6) float32 of `purchase_features`.
    weights : (6,) float32.   bias : scalar.
    calib_x : (k,) float64, strictly increasing, k >= 1.   calib_y : (k,) float64 in [0, 1], not decreasing.
    out : (n,) float64, written in full.
    """
    for row in range(features.shape[0]):
        score = bias
        for column in range(features.shape[1]):
            score += np.float64(features[row, column]) * np.float64(weights[column])
        out[row] = _calibrate(score, calib_x, calib_y)


@njit(nogil=True, cache=True)
def item_frequencies(popularity: Float32, out: Float32) -> None:
    """The popularity feature of every item, log1p(popularity * 1e6).

    popularity : (n,) float32, >= 0.   out : (n,) float32, written in full.
    """
    for item in range(popularity.shape[0]):
        out[item] = math.log1p(popularity[item] * 1e6)


# the sum in any order, so that the loop runs in vectors: 10 ns in place of 41 at d = 64; it differs by rounding alone
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(factors: Float32, row: int, embedding: Float32) -> float:
    dot = np.float32(0.0)
    for j in range(factors.shape[1]):
        dot += factors[row, j] * embedding[j]
    return float(dot)


@njit(nogil=True, cache=True)
def _item_score(factors: Float32, frequency: Float32, weights: Float32, embedding: Float32, row: int) -> float:
    """What an item is worth to a person, their own events with it aside."""
    if not 0 <= row < factors.shape[0]:
        return 0.0
    return float(_dot(factors, row, embedding) * weights[0] + np.float64(frequency[row]) * weights[1])


@njit(nogil=True, cache=True)
def _habit_score(weights: Float32, n_bought: float, last_ms: int, now_ms: int) -> float:
    score = np.float32(math.log1p(n_bought)) * np.float64(weights[3])
    return float(score + np.float32(_months_since(last_ms, now_ms)) * np.float64(weights[4]))


@njit(nogil=True, cache=True)
def _person_score(weights: Float32, n_events: float, last_event_ms: int, now_ms: int) -> float:
    score = np.float32(math.log1p(n_events)) * np.float64(weights[2])
    return float(score + np.float32(_months_since(last_event_ms, now_ms)) * np.float64(weights[5]))


@njit(nogil=True, cache=True)
def best_promoted(
    model: Model,
    table: Table,
    persons: Persons,
    candidates: Candidates,
    time_ms: Int64,
    where: Int32,
    probability: Float64,
    position: Int32,
) -> int:
    """The promoted item that each candidate shows to its person, and the probability of its purchase.

    The item is that of the highest score, ties to the lowest position in the line item's list; a score that is not
    finite comes last. Features and calibration are those of `purchase_features` and `purchase_probability`; an item
    that the model does not know has a product and a popularity of 0.

    time_ms : (n,) int64.   where : int32, all -1, longer than any item row of history or candidates; left as it was.
    probability : (c,) float64, written; 0 when nothing can be shown.
    position : (c,) int32, written: place in the line item's list; -1 when nothing can be shown.

    Returns how many candidates have something to show.
    """
    # read outside the loops: inside them, every field of a tuple is counted as a reference, ten times the work itself
    history, banned, embeddings = persons.history, persons.banned, persons.embeddings
    rows, n_bought, last_bought_ms = history.rows, history.n_bought, history.last_bought_ms
    lines, items, item_indptr = candidates.lines, candidates.items, candidates.item_indptr
    factors, frequency, table_rows, weights = table.factors, table.frequency, table.rows, model.weights
    calib_x, calib_y = model.calib_x, model.calib_y
    n_shown = 0
    for person in range(time_ms.shape[0]):
        now_ms, embedding = time_ms[person], embeddings[person]
        first, last = history.indptr[person], history.indptr[person + 1]
        for entry in range(first, last):
            where[rows[entry]] = entry
        known = model.bias + _person_score(weights, history.n_events[person], history.last_event_ms[person], now_ms)
        never = known + _habit_score(weights, 0.0, 0, now_ms)
        for offer in range(candidates.indptr[person], candidates.indptr[person + 1]):
            best, best_place = -math.inf, -1
            start = item_indptr[lines[offer]]
            for place in range(start, item_indptr[lines[offer] + 1]):
                item = items[place]
                if 0 <= item < banned.shape[0] and banned[item] != 0:
                    continue
                entry = where[item] if 0 <= item < where.shape[0] else -1
                score = _item_score(factors, frequency, weights, embedding, table_rows[place])
                if entry >= 0:
                    score += known + _habit_score(weights, n_bought[entry], last_bought_ms[entry], now_ms)
                else:
                    score += never
                if not math.isfinite(score):
                    score = -math.inf
                if best_place < 0 or score > best:
                    best, best_place = score, place - start
            position[offer] = best_place
            n_shown += best_place >= 0
            probability[offer] = _calibrate(best, calib_x, calib_y) if best_place >= 0 else 0.0
        for entry in range(first, last):
            where[rows[entry]] = -1
    return n_shown
