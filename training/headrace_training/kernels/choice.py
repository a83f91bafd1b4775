"""The conditional logit: which of a person's candidates were taken."""

from __future__ import annotations

import numpy as np
from numba import njit

from headrace.types import Float32, Float64, Int64


@njit(nogil=True, cache=True)
def choice_loss(features: Float32, wanted: Float32, counts: Int64, weights: Float64, gradient: Float64) -> float:
    """Minus the sum of wanted · log softmax(features @ weights) over each person's candidates.

    features : (n, m, f) float32.   wanted : (n, m) float32, >= 0, how much each candidate counts.
    counts   : (n,) int64, how many of the m candidates a person has.
    weights  : (f,) float64.   gradient : (f,) float64, written in full.
    McFadden 1974, equation 12. Sums are taken in order: one answer for any number of threads.
    """
    n_features = len(weights)
    scores = np.empty(features.shape[1], dtype=np.float64)
    gradient[:] = 0.0
    loss = 0.0
    for row in range(features.shape[0]):
        highest, total = -np.inf, 0.0
        for place in range(counts[row]):
            score = 0.0
            for feature in range(n_features):
                score += weights[feature] * features[row, place, feature]
            scores[place] = score
            highest = max(highest, score)
            total += wanted[row, place]
        if total == 0.0:
            continue
        mass = 0.0
        for place in range(counts[row]):
            mass += np.exp(scores[place] - highest)
        for place in range(counts[row]):
            share = np.exp(scores[place] - highest) / mass
            loss -= wanted[row, place] * (scores[place] - highest - np.log(mass))
            slope = total * share - wanted[row, place]
            for feature in range(n_features):
                gradient[feature] += slope * features[row, place, feature]
    return loss
