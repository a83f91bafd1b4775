"""What predicted purchases came to: probabilities of won impressions against the purchases reported of them.

Purchases come late, and records end: the delay of reports is taken to be exponential, its mean is estimated from
reports that could only be seen up to the end of the records (maximum likelihood under right truncation), and of a
predicted purchase only the share whose report could have come by then is due.

Impressions of a campaign are put into bins of probability with equally many due purchases. Of each bin, reported over
due purchases is a factor, shrunk to the campaign's, that to everybody's, and that to 1, each with the weight of
`PRIOR` purchases: the posterior mean of a Poisson rate under a gamma prior (Gelman et al., "Bayesian Data Analysis",
3rd ed., section 2.6). Purchases of one order, or of unequal worth, come in lumps; the counts of a campaign are divided
by their dispersion. Calibrated probabilities are then made monotone (isotonic regression), and between bins
interpolated on logarithmic axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.stats import gamma

from headrace.bidding.pacing.delay import mean_delay
from headrace.decisions.reading import Recording
from headrace.types import Float64, Int64
from headrace_training.intervals import LEVEL

PRIOR = 20.0
"""Due purchases that are taken as having come as predicted."""
PER_BIN = 20.0
MAX_BINS = 10
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Calibration:
    """One campaign's predictions against what was reported; bins ascend by probability.

    edges : (b + 1,) float64 probabilities.   centre : (b,) mean probability of what is due.
    due, reported : (b,) float64 purchases, those of another worth than the line item's in times that.
    lump : how much purchases vary in number, in times a Poisson's.
    shape, rate : of the gamma distribution of the whole campaign's factor, towards which those of bins are shrunk.
    """

    edges: Float64
    centre: Float64
    due: Float64
    reported: Float64
    lump: float
    shape: float
    rate: float

    def factors(self, probability: Float64, of_bins: Float64 | None = None) -> Float64:
        """Calibrated over predicted probability, (n,) float64.

        of_bins : (b,) factors of the bins, such as drawn ones; left out: their means.
        """
        shape, rate = self._of_bins(self.shape / self.rate)
        mean = shape / rate if of_bins is None else of_bins
        level = isotonic_regression(mean * self.centre, weights=rate).x
        within = np.clip(probability, self.centre[0], self.centre[-1])
        calibrated = np.exp(np.interp(np.log(within), np.log(self.centre), np.log(level)))
        factors: Float64 = calibrated / within
        return factors

    def draw(self, rng: np.random.Generator) -> Float64:
        """Factors of the bins, as likely as they are, (b,) float64."""
        shape, rate = self._of_bins(rng.gamma(self.shape) / self.rate)
        return np.asarray(rng.gamma(shape) / rate, np.float64)

    def _of_bins(self, campaign: float) -> tuple[Float64, Float64]:
        """Shape and rate of the gamma distributions of the bins' factors, where the campaign's is known."""
        return self.reported / self.lump + PRIOR * campaign, self.due / self.lump + PRIOR

    def told(self) -> dict[str, Any]:
        """As the report tells it."""
        shape, rate = self._of_bins(self.shape / self.rate)
        low, high = (gamma.ppf(at, shape) / rate for at in ((1.0 - LEVEL) / 2.0, (1.0 + LEVEL) / 2.0))
        columns = zip(*(self.edges[:-1], self.edges[1:], self.due, self.reported, shape / rate, low, high), strict=True)
        names = ("from_probability", "to_probability", "predicted", "reported", "factor")
        bins = [dict(zip(names, row[:5], strict=True)) | {"interval": list(row[5:])} for row in _plain(columns)]
        return {"predicted": float(self.due.sum()), "reported": float(self.reported.sum()), "bins": bins}


def calibrations_of(recording: Recording) -> dict[str, Calibration]:
    """The calibration of each campaign that has won anything; nothing where no purchase was reported."""
    if not (recording.actions["count"] > 0).any():
        return {}
    rows = np.flatnonzero(_shown(recording))
    auctions = recording.auctions[rows]
    probability = np.clip(auctions["probability"], 1e-12, 1.0)
    due = probability * _seen_share(recording)[rows]
    reported = _reported(recording)[rows]
    names, of = _campaigns(recording, auctions)
    lumps = [_lumps(reported[of == number]) for number in range(len(names))]
    sums = [(reported[of == number].sum() / lump, due[of == number].sum() / lump) for number, lump in enumerate(lumps)]
    every = (sum(came for came, _ in sums) + PRIOR) / (sum(all_due for _, all_due in sums) + PRIOR)
    found = {}
    for number, (name, lump) in enumerate(zip(names, lumps, strict=True)):
        mine, (came, all_due) = of == number, sums[number]
        columns = _binned(probability[mine], due[mine], reported[mine], lump)
        found[name] = Calibration(*columns, lump, came + PRIOR * every, all_due + PRIOR)
    return found


def _binned(
    probability: Float64, due: Float64, reported: Float64, lump: float
) -> tuple[Float64, Float64, Float64, Float64]:
    """Edges, centres, due and reported purchases of bins."""
    order = np.argsort(probability, kind="stable")
    probability, due, reported = probability[order], due[order], reported[order]
    n_bins = int(np.clip(min(reported.sum(), due.sum()) / lump / PER_BIN, 1, MAX_BINS))
    passed = np.cumsum(due)
    wanted = passed[-1] * np.arange(1, n_bins) / n_bins
    cuts = np.unique(np.searchsorted(probability, probability[np.searchsorted(passed, wanted)], side="right"))
    starts = np.concatenate([[0], cuts[cuts < len(probability)]])
    of_bin, came = np.add.reduceat(due, starts), np.add.reduceat(reported, starts)
    centre = np.add.reduceat(due * probability, starts) / of_bin
    edges = np.append(probability[starts], probability[-1])
    return edges, centre, of_bin, came


def _shown(recording: Recording) -> Any:
    """Impressions that were won, as notices say or purchases prove, (n,) bool."""
    shown = recording.outcomes.won.copy()
    shown[recording.action_row] = True
    return shown


def _reported(recording: Recording) -> Float64:
    """Purchases of each auction, in times what its line item says that one is worth, (n,) float64."""
    actions, rows = recording.actions, recording.action_row
    own = np.ones(len(rows))
    auctions = recording.auctions[rows]
    for place, board in enumerate(recording.boards):
        mine = auctions["board"] == place
        own[mine] = board.worth_micros[auctions["line"][mine]]
    told = actions["worth_micros"].astype(np.float64)
    each = np.where((told > 0) & (own > 0), told / np.maximum(own, 1.0), 1.0)
    n = len(recording.auctions)
    return np.maximum(np.bincount(rows, actions["count"] * each, n), 0.0)  # what it takes back may not be recorded


def _seen_share(recording: Recording) -> Float64:
    """Of what follows each auction, the share whose report could have come by the end of the records, (n,) float64."""
    actions = recording.actions
    times = recording.auctions["time_ms"]
    end_ms = int(max(times.max(), actions["heard_ms"].max()))
    room = np.maximum(end_ms - times, 0).astype(np.float64)
    bought = actions["count"] > 0
    rows = recording.action_row[bought]
    delay = np.clip(actions["heard_ms"][bought] - times[rows], 1, None).astype(np.float64)
    mean = mean_delay(delay, np.maximum(room[rows], delay), actions["count"][bought].astype(np.float64))
    return np.asarray(np.maximum(-np.expm1(-room / mean), LEAST_SHARE), np.float64)


def _lumps(reported: Float64) -> float:
    """How much the number of purchases varies, in times a Poisson's: 1 for single ones of the line item's own worth."""
    return float((reported**2).sum() / reported.sum()) if reported.sum() > 0.0 else 1.0


def _campaigns(recording: Recording, auctions: Any) -> tuple[list[str], Int64]:
    """Names of the campaigns that were bid for, and the place of each auction's among them."""
    names: dict[str, int] = {}
    of = np.zeros(len(auctions), np.int64)
    for place, board in enumerate(recording.boards):
        mine = np.flatnonzero(auctions["board"] == place)
        lines = auctions["line"][mine]
        for line in np.unique(lines).tolist():
            name = board.lines[line][0].campaign_id
            of[mine[lines == line]] = names.setdefault(name, len(names))
    return list(names), of


def _plain(rows: Any) -> list[list[float]]:
    return [[float(value) for value in row] for row in rows]
