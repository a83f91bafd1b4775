"""What the memories of line items say: real over expected, the share that is bid on, and how many impressions come."""

from __future__ import annotations

from numba import njit

from headrace.types import Float64


@njit(nogil=True, cache=True)
def real_shares(
    real: Float64, due: Float64, bid: Float64, n_bid: Float64, prior: float, low: float, high: float, out: Float64
) -> None:
    """What really happened over what was expected of m line items, shrunk to 1 and kept between two bounds.

    real, due : (m,) sums of both.   bid, n_bid : (m,) what was expected of all bids, and how many they were.
    prior : bids taken as having met what was expected.   out : (m,), written.
    """
    for line in range(out.shape[0]):
        each = prior * (bid[line] / n_bid[line]) if n_bid[line] > 0.0 else 0.0
        share = (real[line] + each) / (due[line] + each) if due[line] + each > 0.0 else 1.0
        out[line] = min(max(share, low), high)


@njit(nogil=True, cache=True)
def bid_shares(part: Float64, whole: Float64, n: Float64, prior: float, least: float, out: Float64) -> None:
    """Shares of impressions that are bid on, by expected cost, shrunk to 1 and at least so much.

    part, whole : (m,) expected cost of those bid on and of all.   n : (m,) how many matched.
    prior : impressions taken as bid on.   out : (m,), written.
    """
    for line in range(out.shape[0]):
        each = prior * (whole[line] / n[line] if n[line] > 0.0 else 1.0)
        share = (part[line] + each) / (whole[line] + each) if whole[line] + each > 0.0 else 1.0
        out[line] = min(max(share, least), 1.0)


@njit(nogil=True, cache=True)
def levels(
    matched: Float64,
    mass: Float64,
    matched_lately: Float64,
    mass_lately: Float64,
    prior: float,
    error: float,
    out: Float64,
) -> None:
    """Impressions that match per week of expected traffic, of a long and a short memory together.

    matched, mass : (m,) impressions and weeks of expected traffic, of the long memory; and both of the short one.
    prior : weeks taken as having passed without any.   error : relative error that the forecast usually makes; the
    short memory's weight is the Kalman gain of a count with Poisson noise on a level known so well.   out : (m,),
    written.
    """
    for line in range(out.shape[0]):
        usual = matched[line] / (mass[line] + prior)
        lately = (matched_lately[line] + prior * usual) / (mass_lately[line] + prior)
        told = error**2 * matched_lately[line]
        out[line] = usual + told / (1.0 + told) * (lately - usual)
