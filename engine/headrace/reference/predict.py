"""Plain NumPy twins of `headrace.kernels.predict`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Float32, Float64, Int64


def _months_since(last_ms: Int64, now_ms: Int64) -> Float64:
    days = np.clip((now_ms - last_ms) / 86_400_000.0, 0.0, 365.0)
    return np.where(last_ms <= 0, 365.0, days) / 30.0


def purchase_features(
    dots: Float32,
    popularity: Float32,
    n_events: Int64,
    n_bought: Int64,
    last_purchase_ms: Int64,
    last_event_ms: Int64,
    now_ms: Int64,
) -> Float32:
    """The (n, 6) float32 features of n (person, item, moment) rows."""
    columns = [
        dots,
        np.log1p(popularity.astype(np.float64) * 1e6),
        np.log1p(n_events),
        np.log1p(n_bought),
        _months_since(last_purchase_ms, now_ms),
        _months_since(last_event_ms, now_ms),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def purchase_probability(
    features: Float32, weights: Float32, bias: float, calib_x: Float64, calib_y: Float64
) -> Float64:
    """The (n,) float64 calibrated probabilities; 0 where the score is not finite."""
    score = _scores(features, weights, bias)
    return np.where(np.isfinite(score), np.interp(score, calib_x, calib_y), 0.0)


def _scores(features: Float32, weights: Float32, bias: float) -> Float64:
    with np.errstate(invalid="ignore", over="ignore"):
        return features.astype(np.float64) @ weights.astype(np.float64) + bias


def best_promoted(model: Any, persons: Any, candidates: Any, time_ms: Int64) -> list[tuple[float, int]]:
    """(probability, place in the line item's list) of each candidate's best item; (0, -1) when nothing can be shown."""
    answers = []
    for person in range(len(time_ms)):
        for offer in range(candidates.indptr[person], candidates.indptr[person + 1]):
            line = candidates.lines[offer]
            items = candidates.items[candidates.item_indptr[line] : candidates.item_indptr[line + 1]]
            features = _features(model, persons, person, items, int(time_ms[person]))
            scores = _scores(features, model.weights, model.bias)
            chances = purchase_probability(features, model.weights, model.bias, model.calib_x, model.calib_y)
            shown = [
                (score if np.isfinite(score) else -np.inf, -place)
                for place, (item, score) in enumerate(zip(items, scores, strict=True))
                if not (0 <= item < len(persons.banned) and persons.banned[item] != 0)
            ]
            best = -max(shown)[1] if shown else -1
            answers.append((float(chances[best]) if shown else 0.0, best))
    return answers


def _features(model: Any, persons: Any, person: int, items: Any, now_ms: int) -> Float32:
    history = persons.history
    own = slice(history.indptr[person], history.indptr[person + 1])
    entry = {int(row): own.start + i for i, row in enumerate(history.rows[own])}
    known = [0 <= item < len(model.popularity) for item in items]
    mine = persons.embeddings[person, : model.item_factors.shape[1]]
    dots = [mine @ model.item_factors[item] if ok else 0.0 for item, ok in zip(items, known, strict=True)]
    n = len(items)
    return purchase_features(
        np.array(dots, np.float32),
        np.array([model.popularity[item] if ok else 0.0 for item, ok in zip(items, known, strict=True)], np.float32),
        np.full(n, persons.history.n_events[person]),
        np.array([history.n_bought[entry[int(i)]] if int(i) in entry else 0.0 for i in items], np.float32),
        np.array([history.last_bought_ms[entry[int(i)]] if int(i) in entry else 0 for i in items], np.int64),
        np.full(n, history.last_event_ms[person]),
        np.full(n, now_ms),
    )
