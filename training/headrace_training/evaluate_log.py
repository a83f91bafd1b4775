"""Evaluation on an event log split at a moment, with simple baselines beside the model that is served."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from headrace.errors import DataError
from headrace.events.columns import TrainingColumns
from headrace.events.log import EventLog
from headrace.types import Float32, Int32
from headrace_training.datasets import Pairs
from headrace_training.evaluate import (
    Report,
    TestSet,
    build_test_set,
    check_options,
    fit_model,
    given_model,
    latest_times,
    measure,
    measure_outcome,
)
from headrace_training.fit import Fitter
from headrace_training.history import PURCHASE, RETURN, build_history, daily_groups, type_weights
from headrace_training.ingest import open_log
from headrace_training.metrics import Catalogue, item_age_days
from headrace_training.models import Model, PopularityModel
from headrace_training.models.base import Parameters
from headrace_training.neighbours import shrunk_cosine
from headrace_training.openings import note_opening
from headrace_training.results import complete
from headrace_training.settings import FitSettings
from headrace_training.slate import FactorModel, served_model

FOREVER_MS = 2**62


class FixedModel:
    """Scores given as a sparse product ``history @ item_scores``, ties broken by popularity."""

    def __init__(
        self, name: str, history: sp.csr_matrix, item_scores: sp.csr_matrix | None, popularity: Float32
    ) -> None:
        self.name = name
        self._history = history
        self._item_scores = item_scores
        # far below the smallest score, so that it only orders what the scores leave equal
        self._popularity = popularity / max(float(popularity.max(initial=0.0)), 1.0) * np.float32(1e-4)

    @property
    def parameters(self) -> Parameters:
        return {}

    @property
    def n_items(self) -> int:
        return len(self._popularity)

    def fit(self, train: sp.csr_matrix) -> None:
        raise TypeError("the scores are given")

    def scores(self, users: Int32) -> Float32:
        rows = self._history[users]
        scores = (rows if self._item_scores is None else rows @ self._item_scores).toarray()
        return np.asarray(scores, dtype=np.float32) + self._popularity


@dataclass(frozen=True)
class LogSplit:
    """The log before a moment, as seen then, and what people did from it on.

    train : (n_users, n_items) float32 confidence weights.   bought : (n_users, n_items) purchases less returns.
    """

    events: TrainingColumns
    train: sp.csr_matrix
    bought: sp.csr_matrix
    latest: sp.csr_matrix | None
    test: Pairs

    def test_set(self, masked: sp.csr_matrix) -> TestSet:
        """Test users and items; pairs stored in ``masked`` are left out."""
        users = {name: idx for idx, name in enumerate(self.events.user_names)}
        items = {name: idx for idx, name in enumerate(self.events.item_ids)}
        return build_test_set(masked, users, items, self.test, known=np.diff(self.train.indptr) > 0)


def split_log(log: EventLog, split_ms: int, settings: FitSettings) -> LogSplit:
    """Split at a moment (train before it); DataError when either side is empty.

    Test items are purchases, or all events of a weighted type in a log without purchases.
    """
    weights = settings.weights()
    before, everything = log.read_columns(split_ms), log.read_columns()
    unit = type_weights(weights)
    unit[RETURN] = 0.0
    later = (everything.times_ms >= split_ms) & (unit[everything.types] > 0)
    if (everything.types == PURCHASE).any():
        later &= everything.types == PURCHASE
    if not later.any() or not (unit[before.types] > 0).any():
        side = "before" if later.any() else "from"
        raise DataError(f"no weighted event {side} --split-time", hint="choose a moment inside the log's time")
    history = build_history(before, weights, FOREVER_MS)
    rows = Pairs(
        before.user_names, before.item_ids, history.users.astype(np.int32), history.items,
        np.ones(len(history.items)), history.times_ms,
    )  # fmt: skip
    n_later = int(later.sum())
    test = Pairs(
        everything.user_names,
        everything.item_ids,
        everything.user_idx[later],
        everything.item_idx[later],
        np.ones(n_later),
    )
    train = history.confidence(weights["purchase"])
    return LogSplit(before, train, history.bought().astype(np.float32), latest_times(rows, train), test)


def evaluate_log_metrics(
    folder: Path,
    split_ms: int,
    *,
    model: str = "auto",
    k: int = 20,
    seed: int = 0,
    save: Path | None = None,
    parameters: Path | None = None,
) -> Report:
    """`headrace-train evaluate --log`: the contract's fields, plus the same metrics with repeats shown and counted."""
    check_options(model, k, seed)
    given = given_model(model, parameters, seed)
    log = open_log(folder)
    try:
        split = split_log(log, split_ms, FitSettings(seed=seed))
    finally:
        log.store.close()
    chosen, seconds = fit_model(given or model, split.train, split.latest, k, seed, watch=save is not None)
    opened = note_opening(f"{folder.resolve()} from {split_ms} ms", chosen.name, save or parameters)
    start = time.perf_counter()
    found, outcome = measure_outcome(chosen, split.train, split.test_set(split.train), k)
    fallback = PopularityModel()
    fallback.fit(split.train)
    nothing = sp.csr_matrix(split.train.shape, dtype=np.float32)
    recall, ndcg = measure(chosen, fallback, nothing, split.test_set(nothing), k).means
    found |= {f"all_items_recall@{k}": recall, f"all_items_ndcg@{k}": ndcg}
    found |= seconds | opened | {"evaluate_seconds": time.perf_counter() - start}
    events = split.events
    ages = item_age_days(events.item_idx, events.times_ms, split.train.shape[1])
    catalogue = Catalogue(item_ids=events.item_ids, taken=split.train, age_days=ages)
    return complete(found, outcome, catalogue, format="interactions", seed=seed, save=save)


def evaluate_log(
    log: EventLog, split_ms: int, settings: FitSettings | None = None, k: int = 20
) -> dict[str, dict[str, float]]:
    """The model that `fit` would serve, trained on the log before a moment, beside three baselines.

    Returns for each of ``served`` (what `fit` chooses: ``ials`` with repeats lifted, and links), ``ials``,
    ``copurchase``, ``popularity`` and ``personal_repeat`` the means over users of ``recall@k`` and ``ndcg@k`` for all
    items, and ``new_recall@k`` and ``new_ndcg@k`` for items that the person had not bought before; for ``users`` how
    many were averaged. Raises DataError when a side of the split is empty.
    """
    settings = settings or FitSettings()
    split = split_log(log, split_ms, settings)
    nothing = sp.csr_matrix(split.bought.shape, dtype=np.float32)
    everything, new = split.test_set(nothing), split.test_set(split.bought)
    result: dict[str, dict[str, float]] = {}
    fallback = PopularityModel()
    fallback.fit(split.train)
    for model, for_new in _contenders(split, settings):
        all_recall, all_ndcg = measure(model, fallback, nothing, everything, k).means
        new_recall, new_ndcg = measure(for_new, fallback, split.bought, new, k).means
        result[model.name] = {
            f"recall@{k}": all_recall,
            f"ndcg@{k}": all_ndcg,
            f"new_recall@{k}": new_recall,
            f"new_ndcg@{k}": new_ndcg,
        }
    result["users"] = {"all": float(len(everything.rows)), "new": float(len(new.rows))}
    return result


def _contenders(split: LogSplit, settings: FitSettings) -> list[tuple[Model, Model]]:
    """Models of slates with everything, each with that of slates without what was bought."""
    fitter = Fitter(split.events, settings, now_ms=0)
    fitter.choose()
    moment = fitter.moment(fitter.slices.end_ms)
    extras = fitter.extras(moment)
    popularity = np.bincount(split.train.indices, minlength=split.train.shape[1]).astype(np.float32)
    groups = daily_groups(split.events, settings.weights(), FOREVER_MS)
    neighbours = shrunk_cosine(groups, settings.neighbours, 10.0)
    present = split.train.copy()
    present.data = np.ones_like(present.data)
    nobody = sp.csr_matrix(split.train.shape, dtype=np.float32)
    others: list[Model] = [
        FactorModel(moment.user_factors, moment.item_factors),
        FixedModel("copurchase", present, neighbours, popularity),
        FixedModel("popularity", nobody, None, popularity),
        FixedModel("personal_repeat", split.bought, None, popularity),
    ]
    served = (served_model(moment, extras), served_model(moment, extras, only_new=True))
    return [served, *((model, model) for model in others)]
