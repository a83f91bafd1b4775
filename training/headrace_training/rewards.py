"""What an action is worth in a context: a logistic or linear model with a weight for every feature and action."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize
from scipy.special import expit

from headrace.types import Float64, Int32
from headrace_training.bandit import BanditLog, Policy

STRENGTH = 1.0
"""Of the squared weights, half of it: a reward or so of evidence against each."""

BLOCK_CELLS = 1_000_000


@dataclass(frozen=True)
class RewardModel:
    """link(bias + of_feature · context + of_action); the link is logistic for rewards of 0 and 1, else none."""

    logistic: bool
    bias: float
    of_feature: Float64
    of_action: Float64

    @classmethod
    def fit(cls, context: sp.csr_matrix, action: Int32, reward: Float64, n_actions: int, logistic: bool) -> RewardModel:
        """Least squares or maximum likelihood, weights drawn to 0; the bias is free."""
        n, m = context.shape
        chosen = sp.csr_matrix((np.ones(n), (np.arange(n), action)), shape=(n, n_actions))
        design = sp.hstack([sp.csr_matrix(np.ones((n, 1))), context, chosen]).tocsr()
        transposed = design.T.tocsr()

        # sums, not dot products: BLAS adds in another order with other numbers of threads
        def loss(weights: Float64) -> tuple[float, Float64]:
            linear = design @ weights
            away = weights.copy()
            away[0] = 0.0
            error = (expit(linear) if logistic else linear) - reward
            value = (np.logaddexp(0, linear) - reward * linear).sum() if logistic else 0.5 * np.square(error).sum()
            return float(value + 0.5 * STRENGTH * np.square(away).sum()), transposed @ error + STRENGTH * away

        start = np.zeros(design.shape[1])
        mean = float(reward.mean())
        if not logistic:
            start[0] = mean
        elif 0 < mean < 1:
            start[0] = np.log(mean / (1 - mean))
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
        return cls(logistic, float(found[0]), found[1 : 1 + m], found[1 + m :])

    def of_logged(self, context: sp.csr_matrix, action: Int32) -> Float64:
        """Of the actions taken; (n,) float64."""
        return self._link(self.bias + context @ self.of_feature + self.of_action[action])

    def of_policy(self, context: sp.csr_matrix, table: Float64, group: Int32) -> Float64:
        """The mean over what a policy takes in each context; (n,) float64."""
        base = self.bias + context @ self.of_feature
        out = np.empty(len(base))
        step = max(1, BLOCK_CELLS // max(1, len(self.of_action)))
        for start in range(0, len(base), step):
            rows = slice(start, start + step)
            values = self._link(base[rows, None] + self.of_action[None, :])
            out[rows] = (values * table[group[rows]]).sum(axis=1)
        return out

    def _link(self, linear: Float64) -> Float64:
        return np.asarray(expit(linear) if self.logistic else linear)


def cross_fitted(log: BanditLog, policy: Policy, folds: int, seed: int) -> tuple[Float64, Float64, str]:
    """Worth of the logged action and of what a policy takes, by models that have not seen the row.

    Returns (n,) and (n,) float64, and the kind of model.
    """
    logistic = bool(np.isin(log.reward, (0.0, 1.0)).all())
    order = np.random.default_rng(seed).permutation(len(log))
    logged, expected = np.empty(len(log)), np.empty(len(log))
    for fold in np.array_split(order, min(folds, len(log))):
        rest = np.setdiff1d(order, fold)
        rows = log.context[rest], log.action[rest], log.reward[rest]
        model = RewardModel.fit(*rows, len(log.actions), logistic)
        logged[fold] = model.of_logged(log.context[fold], log.action[fold])
        expected[fold] = model.of_policy(log.context[fold], policy.table, policy.group[fold])
    return logged, expected, "logistic" if logistic else "ridge"
