"""Win rates by price from what bids met with: prices told, and prices known only to lie above or below a bid.

A row's win rate F at the inner edges of the price bins is written as logistic(theta). What is maximised is

    sum n_k log(F_k+1 - F_k) + sum w_k log F_k + sum l_k log(1 - F_k) - sum smooth_k / 2 * (D2 (theta - anchor))_k^2

with n the weight of prices known to lie in a bin, w that of bids at an edge that won without a price, l that of bids
that lost. It is concave in theta (the ordered logit's likelihood; Pratt, "Concavity of the log likelihood", 1981), and
the prior's n_k > 0 in every bin keeps F ascending; so Newton's method with pentadiagonal systems finds its only top.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.types import Bool, Float64, Int8, Int32

FIRST_OCTAVE = 10
LAST_OCTAVE = 40
BINS_PER_OCTAVE = 16
N_BINS = (LAST_OCTAVE - FIRST_OCTAVE) * BINS_PER_OCTAVE
"""Prices are told apart by bins of a 16th of an octave from 2**10 to 2**40 CPM micros; the end bins take the rest."""

PRICE, WIN, LOSS = 0, 1, 2
"""What a bid met with: a price that is known, a win without one, a loss without one."""

PRIOR_AUCTIONS = 1.0
"""Weight, in auctions, of a broad log-logistic landscape above the topmost row."""
PRIOR_MEDIAN_CPM = 2.0**22
SHARED_AUCTIONS = 20.0
"""Weight, in auctions, of the row above in a row's own landscape (a Dirichlet prior)."""
PRIOR_SMOOTH = 30_000.0
"""How smooth a row is taken to be before it has evidence of its own."""
LEAST_SMOOTH, MOST_SMOOTH = 1.0, 1e6
JUMP_SMOOTH = 1.0
"""How smooth theta is where it jumps: not at all, up to jumps of odds by some ten times."""
JUMP_TAKEN, JUMP_KEPT = 12.0, 4.0
"""Statistics of chi-squared from which a jump is taken up: some 2 ln b, the most that b bins without any show; and down
to which it is kept."""
LEAST_KNOWN = 1e-6
"""Below it, relative to the penalty, rounding decides what is known of a jump."""
LEAST_SHARE = 1e-6
"""Share of the prior in every bin, so that all bins stay apart."""
LEAST_GAP = 1e-9
"""Between neighbours in theta, for the same reason against rounding."""
MAX_STEPS = 60
TOLERANCE = 1e-6


class Evidence(NamedTuple):
    """What the bids of r rows met with, as weights.

    prices : (r, b) float64. Prices known to lie in a bin.
    wins, losses : (r, b + 1) float64. Bids at an edge that won, or lost, when no price was told.
    weight : (r,) float64. All of it.   changed : (r,) float64. What came since the row was fitted.
    """

    prices: Float64
    wins: Float64
    losses: Float64
    weight: Float64
    changed: Float64


class Outcomes(NamedTuple):
    """What n bids met with.

    rows : (n,) int32.   kinds : (n,) int8, PRICE, WIN or LOSS.
    amounts : (n,) float64 > 0, CPM micros. The price where it is known, else the bid.
    """

    rows: Int32
    kinds: Int8
    amounts: Float64


class Fits(NamedTuple):
    """What is fitted of r rows.

    theta : (r, b - 1) float64, ascending along a row; start of the next fit.   smooth : (r,) float64.
    win_rate : (r, b + 1) float64, as of `headrace.kernels.price.Market`.
    errors : (r, b + 1) float64. Standard errors of theta, at the same edges.
    jumps : (r, b - 1) bool. Behind which places theta jumps, see `learn_smooth`.
    """

    theta: Float64
    smooth: Float64
    win_rate: Float64
    errors: Float64
    jumps: Bool


@njit(nogil=True, cache=True)
def _place(edges: Float64, price: float) -> int:
    """The bin of a price: the one whose upper edge is the first at or above it."""
    last = edges.shape[0] - 2
    place: int = math.ceil((math.log2(max(price, 1.0)) - FIRST_OCTAVE) * BINS_PER_OCTAVE) - 1
    place = min(max(place, 0), last)
    # rounding may put what lies on an edge on its other side
    if place > 0 and price <= edges[place]:
        place -= 1
    elif place < last and price > edges[place + 1]:
        place += 1
    return place


@njit(nogil=True, cache=True)
def add_evidence(edges: Float64, parents: Int32, outcomes: Outcomes, evidence: Evidence) -> None:
    """Count n outcomes for their rows and for all rows above them.

    edges : (b + 1,) float64, `N_BINS` of them.   parents : (r,) int32, -1 for the topmost.
    A price counts in its bin; a bid at both edges of its bin, the nearer one more.
    """
    for at in range(outcomes.rows.shape[0]):
        amount = outcomes.amounts[at]
        place = _place(edges, amount)
        share = min(max((amount - edges[place]) / (edges[place + 1] - edges[place]), 0.0), 1.0)
        row = outcomes.rows[at]
        while row >= 0:
            evidence.weight[row] += 1.0
            evidence.changed[row] += 1.0
            if outcomes.kinds[at] == PRICE:
                evidence.prices[row, place] += 1.0
            elif outcomes.kinds[at] == WIN:
                evidence.wins[row, place] += 1.0 - share
                evidence.wins[row, place + 1] += share
            else:
                evidence.losses[row, place] += 1.0 - share
                evidence.losses[row, place + 1] += share
            row = parents[row]


@njit(nogil=True, cache=True)
def _logistic(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))


@njit(nogil=True, cache=True)
def _objective(
    theta: Float64, anchor: Float64, smooth: Float64, prices: Float64, wins: Float64, losses: Float64
) -> float:
    last = theta.shape[0] - 1
    total = 0.0
    for k in range(last + 1):
        won = -math.log1p(math.exp(-theta[k])) if theta[k] > -30.0 else theta[k]
        lost = -math.log1p(math.exp(theta[k])) if theta[k] < 30.0 else -theta[k]
        above = prices[k + 1] if k < last else 0.0
        below = prices[k] if k > 0 else 0.0
        total += (wins[k + 1] + (prices[0] if k == 0 else 0.0) + below) * won
        total += (losses[k + 1] + (prices[last + 1] if k == last else 0.0) + above) * lost
        if k < last:
            total += above * math.log(-math.expm1(theta[k] - theta[k + 1]))
        if 0 < k < last:
            bend = theta[k - 1] - 2.0 * theta[k] + theta[k + 1] - anchor[k - 1] + 2.0 * anchor[k] - anchor[k + 1]
            total -= 0.5 * smooth[k - 1] * bend * bend
    return total


@njit(nogil=True, cache=True)
def _derivatives(
    theta: Float64, prices: Float64, wins: Float64, losses: Float64, gradient: Float64, hessian: Float64
) -> None:
    """Gradient, and minus the Hessian's diagonals [0] and [1], of the likelihood alone; [2] is zeroed."""
    last = theta.shape[0] - 1
    hessian[:] = 0.0
    for k in range(last + 1):
        rate = _logistic(theta[k])
        won = wins[k + 1] + (prices[0] if k == 0 else 0.0) + (prices[k] if k > 0 else 0.0)
        lost = losses[k + 1] + (prices[last + 1] if k == last else 0.0) + (prices[k + 1] if k < last else 0.0)
        gradient[k] = won * (1.0 - rate) - lost * rate
        hessian[0, k] = (won + lost) * rate * (1.0 - rate)
    for k in range(last):
        # log(F_k+1 - F_k) = log F_k+1 + log(1 - F_k) + log(1 - exp(-gap)); the first two are counted above
        gap = theta[k + 1] - theta[k]
        slope = prices[k + 1] / math.expm1(gap)
        curve = slope * (1.0 + 1.0 / math.expm1(gap))
        gradient[k] -= slope
        gradient[k + 1] += slope
        hessian[0, k] += curve
        hessian[0, k + 1] += curve
        hessian[1, k] -= curve


@njit(nogil=True, cache=True)
def _add_penalty(theta: Float64, anchor: Float64, smooths: Float64, gradient: Float64, hessian: Float64) -> None:
    for k in range(1, theta.shape[0] - 1):
        bend = theta[k - 1] - 2.0 * theta[k] + theta[k + 1] - anchor[k - 1] + 2.0 * anchor[k] - anchor[k + 1]
        smooth = smooths[k - 1]
        gradient[k - 1] -= smooth * bend
        gradient[k] += 2.0 * smooth * bend
        gradient[k + 1] -= smooth * bend
        hessian[0, k - 1] += smooth
        hessian[0, k] += 4.0 * smooth
        hessian[0, k + 1] += smooth
        hessian[1, k - 1] -= 2.0 * smooth
        hessian[1, k] -= 2.0 * smooth
        hessian[2, k - 1] += smooth


@njit(nogil=True, cache=True)
def _factor(a: Float64) -> None:
    """The L D L' factors of a pentadiagonal matrix in place: D in a[0], L's lower diagonals in a[1] and a[2]."""
    n = a.shape[1]
    for k in range(n):
        if k > 0:
            a[0, k] -= a[1, k - 1] ** 2 * a[0, k - 1]
        if k > 1:
            a[0, k] -= a[2, k - 2] ** 2 * a[0, k - 2]
        if k + 1 < n:
            if k > 0:
                a[1, k] -= a[2, k - 1] * a[1, k - 1] * a[0, k - 1]
            a[1, k] /= a[0, k]
        if k + 2 < n:
            a[2, k] /= a[0, k]


@njit(nogil=True, cache=True)
def _solve(a: Float64, x: Float64) -> None:
    n = a.shape[1]
    for k in range(n):
        if k > 0:
            x[k] -= a[1, k - 1] * x[k - 1]
        if k > 1:
            x[k] -= a[2, k - 2] * x[k - 2]
    for k in range(n - 1, -1, -1):
        x[k] /= a[0, k]
        if k + 1 < n:
            x[k] -= a[1, k] * x[k + 1]
        if k + 2 < n:
            x[k] -= a[2, k] * x[k + 2]


@njit(nogil=True, cache=True)
def fit_row(anchor: Float64, smooth: Float64, prices: Float64, wins: Float64, losses: Float64, theta: Float64) -> int:
    """Fit one row; returns the steps taken.

    anchor : (b - 1,) float64. The parent's theta: the row's may bend away from it at prices of ``smooth``, (b - 3,).
    prices : (b,) float64 > 0, prior included.   wins, losses : (b + 1,) float64 >= 0; the end edges do not count.
    theta : (b - 1,) float64. In: where to begin, strictly ascending. Out: the fit.
    """
    n = theta.shape[0]
    gradient, hessian, tried = np.empty(n), np.empty((3, n)), np.empty(n)
    value = _objective(theta, anchor, smooth, prices, wins, losses)
    for taken in range(MAX_STEPS):
        _derivatives(theta, prices, wins, losses, gradient, hessian)
        _add_penalty(theta, anchor, smooth, gradient, hessian)
        tried[:] = gradient
        _factor(hessian)
        _solve(hessian, tried)
        gain = 0.0
        step = 1.0
        for k in range(n):
            gain += gradient[k] * tried[k]
            if k > 0 and tried[k] < tried[k - 1]:
                step = min(step, 0.95 * (theta[k] - theta[k - 1]) / (tried[k - 1] - tried[k]))
        if gain < TOLERANCE:
            return taken
        direction = tried.copy()
        while True:
            tried[0] = theta[0] + step * direction[0]
            for k in range(1, n):
                tried[k] = max(theta[k] + step * direction[k], tried[k - 1] + LEAST_GAP)
            reached = _objective(tried, anchor, smooth, prices, wins, losses)
            if reached >= value + 1e-4 * step * gain or step < 1e-8:
                break
            step *= 0.5
        theta[:] = tried
        value = reached
    return MAX_STEPS


@njit(nogil=True, cache=True)
def _invert(a: Float64) -> Float64:
    """Diagonals 0 to 3 of the inverse of a factored pentadiagonal matrix, padded, from the last row up.

    Takahashi, Fagan and Chin, "Formation of a sparse bus impedance matrix", 1973.
    """
    n = a.shape[1]
    v = np.zeros((4, n + 3))
    for k in range(n - 1, -1, -1):
        below = a[1, k] if k + 1 < n else 0.0
        further = a[2, k] if k + 2 < n else 0.0
        v[3, k] = -(below * v[2, k + 1] + further * v[1, k + 2])
        v[2, k] = -(below * v[1, k + 1] + further * v[0, k + 2])
        v[1, k] = -(below * v[0, k + 1] + further * v[1, k + 1])
        v[0, k] = 1.0 / a[0, k] - (below * v[1, k] + further * v[2, k])
    return v


@njit(nogil=True, cache=True)
def _bends(theta: Float64, anchor: Float64, v: Float64) -> Float64:
    """Bends of theta away from the anchor, their variances, and covariances with the next one, (3, n - 2)."""
    n = theta.shape[0]
    result = np.zeros((3, n - 2))
    for k in range(n - 2):
        result[0, k] = theta[k] - 2.0 * theta[k + 1] + theta[k + 2] - anchor[k] + 2.0 * anchor[k + 1] - anchor[k + 2]
        result[1, k] = v[0, k] + 4.0 * (v[0, k + 1] - v[1, k] - v[1, k + 1]) + v[0, k + 2] + 2.0 * v[2, k]
        if k + 3 < n:
            result[2, k] = v[1, k] - 2.0 * v[2, k] + v[3, k] + v[1, k + 1] - 2.0 * v[0, k + 2] + v[1, k + 2]
            result[2, k] -= 2.0 * (v[0, k + 1] - 2.0 * v[1, k + 1] + v[2, k + 1])
    return result


@njit(nogil=True, cache=True)
def _move_jumps(smooth: Float64, bends: Float64, jumps: Bool) -> None:
    """Take up the jump that the likelihood gains most from, and drop those that nothing speaks for any more.

    A step of theta in one bin bends it up, then down. Where there is no jump, the score test of one (Rao, 1948); where
    there is, Wald's of none; both statistics are chi-squared with one degree of freedom while there is no jump.
    """
    best, place = JUMP_TAKEN, -1
    for k in range(1, bends.shape[1]):
        up, down, near = bends[:, k - 1], bends[:, k], bends[2, k - 1]
        if jumps[k]:
            jumps[k] = (up[0] - down[0]) ** 2 >= JUMP_KEPT * (up[1] + down[1] - 2.0 * near)
            continue
        one, other = smooth[k - 1], smooth[k]
        score = one * up[0] - other * down[0]
        known = one + other - one * one * up[1] - other * other * down[1] + 2.0 * one * other * near
        if score > 0.0 and known > LEAST_KNOWN * (one + other) and score * score > best * known:
            best, place = score * score / known, k
    if place >= 0:
        jumps[place] = True


@njit(nogil=True, cache=True)
def learn_smooth(
    anchor: Float64,
    smooth: Float64,
    jumps: Bool,
    prices: Float64,
    wins: Float64,
    losses: Float64,
    theta: Float64,
    errors: Float64,
) -> float:
    """The next estimate of how smooth a fitted row is, by its marginal likelihood, and of where it jumps.

    Bends of theta are taken as normal with variance 1 / smooth, those of jumps aside; one step of Fellner and Schall's
    iteration (Wood and Fasiolo, "A generalized Fellner-Schall method", 2017), with one bend at `PRIOR_SMOOTH` taken as
    seen. Arguments as of `fit_row`, whose theta it needs.

    jumps : (b - 1,) bool, updated: theta may jump behind place k, in bin k + 1, as where many ask the same price.
    errors : (b + 1,) float64, written: theta's standard errors at the edges, 0 at the end edges.
    """
    n = theta.shape[0]
    gradient, a = np.empty(n), np.empty((3, n))
    _derivatives(theta, prices, wins, losses, gradient, a)
    _add_penalty(theta, anchor, smooth, gradient, a)
    _factor(a)
    v = _invert(a)
    errors[1 : n + 1] = np.sqrt(np.maximum(v[0, :n], 0.0))
    bends = _bends(theta, anchor, v)
    known, bent = 0.0, 0.0
    for k in range(n - 2):
        if not (jumps[k] or jumps[k + 1]):
            known += 1.0 - smooth[k] * bends[1, k]
            bent += bends[0, k] * bends[0, k]
    _move_jumps(smooth, bends, jumps)
    return float(min(max((max(known, 0.0) + 1.0) / (bent + 1.0 / PRIOR_SMOOTH), LEAST_SMOOTH), MOST_SMOOTH))


@njit(nogil=True, cache=True)
def fit_rows(edges: Float64, order: Int32, parents: Int32, evidence: Evidence, fits: Fits) -> None:
    """Fit rows anew, each from where it was.

    order : rows to fit, those above before those below.   parents : (r,) int32, -1 for the topmost.
    """
    n = edges.shape[0] - 2
    broad = np.log(edges[1:-1] / PRIOR_MEDIAN_CPM)
    prices = np.empty(n + 1)
    for row in order:
        parent = parents[row]
        anchor = broad if parent < 0 else fits.theta[parent]
        weight = PRIOR_AUCTIONS if parent < 0 else SHARED_AUCTIONS
        before = 0.0
        for k in range(n):
            rate = _logistic(anchor[k])
            prices[k] = evidence.prices[row, k] + weight * max(rate - before, LEAST_SHARE)
            before = rate
        prices[n] = evidence.prices[row, n] + weight * max(1.0 - before, LEAST_SHARE)
        wins, losses, theta = evidence.wins[row], evidence.losses[row], fits.theta[row]
        smooth, jumps = np.full(n - 2, fits.smooth[row]), fits.jumps[row]
        for k in range(1, n - 2):
            if jumps[k]:
                smooth[k - 1] = smooth[k] = JUMP_SMOOTH
        fit_row(anchor, smooth, prices, wins, losses, theta)
        fits.smooth[row] = learn_smooth(anchor, smooth, jumps, prices, wins, losses, theta, fits.errors[row])
        evidence.changed[row] = 0.0
        fits.win_rate[row, 0] = 0.0
        for k in range(n):
            fits.win_rate[row, k + 1] = _logistic(theta[k])
        fits.win_rate[row, n + 1] = 1.0
