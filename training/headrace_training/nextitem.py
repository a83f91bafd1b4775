"""Fitting and measuring models of what comes next; shared by the formats *sessions* and *sequences*."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.errors import ConfigError, HeadraceError
from headrace.types import Float64, Int32
from headrace_training.memory import require_memory
from headrace_training.models.base import NextItemModel, Parameters
from headrace_training.models.nextpopularity import NextPopularityModel
from headrace_training.models.transitions import TransitionModel, TransitionSettings
from headrace_training.options import check_asked
from headrace_training.progress import say
from headrace_training.ranking import top_k
from headrace_training.search import read_parameters
from headrace_training.sequences import Questions, Sequences
from headrace_training.validation import Validation, choose_settings, score_blocks

NEXT_ITEM_MODELS: Mapping[str, type[NextItemModel]] = {
    "transitions": TransitionModel,
    "popularity": NextPopularityModel,
}

MIN_QUESTIONS = 20
"""With fewer questions to validate on, the defaults are taken without a trial."""


def check_next_item_options(model: str, k: int, seed: int) -> None:
    """ConfigError for an unknown model, a k below 1 or a seed that is none."""
    check_asked(model, NEXT_ITEM_MODELS, k, seed, " with this format")


def make_next_item(name: str, seed: int, parameters: Parameters | None = None) -> NextItemModel:
    """A model with its default parameters but for those given; ConfigError for a name or a value that is none."""
    if name not in NEXT_ITEM_MODELS:
        raise ConfigError("model", got=name, expected=", ".join(NEXT_ITEM_MODELS))
    if name == "popularity":
        known: dict[str, Any] = {}
    else:
        known = {field.name: field.default for field in fields(TransitionSettings)}
    for key, value in (parameters or {}).items():
        kind = int if isinstance(known.get(key), int) else (int, float)
        if key not in known or not isinstance(value, kind) or isinstance(value, bool) or not 0 <= value < math.inf:
            expected = f"numbers from 0 for {', '.join(known)}" if known else "no parameters"
            raise ConfigError(f"parameter {key} of {name}", got=value, expected=expected)
    if name == "popularity":
        return NextPopularityModel()
    changed: dict[str, Any] = {"seed": seed, **(parameters or {})}
    return TransitionModel(TransitionSettings(**changed))


def given_next_item(name: str, parameters: Path | None, seed: int) -> NextItemModel | None:
    """The model of a parameters file, not fitted; None without one. ConfigError when another model was named."""
    if parameters is None:
        return None
    found, values = read_parameters(parameters, name)
    return make_next_item(found, seed, values)


def fit_next_item(
    asked: str | NextItemModel, train: Sequences, hold_out: Callable[[], Validation], seed: int
) -> tuple[NextItemModel, dict[str, Any]]:
    """Choose settings when asked to, fit on all of train; returns the model, select_seconds and fit_seconds.

    asked : "auto", the name of a model, or a model. What was tried to choose is the field `selection`.
    """
    start = time.perf_counter()
    default = make_next_item("transitions" if asked == "auto" else asked, seed) if isinstance(asked, str) else asked
    if isinstance(default, TransitionModel):
        what = f"fitting transitions on {len(train.items)} places and {train.n_items} items"
        hint = "take fewer n_neighbours or a smaller max_lag by --parameters, less data or a larger machine"
        require_memory(what, default.memory_bytes(train), hint)
    tried: dict[str, float] = {}
    model = select_next_item(hold_out(), seed, tried) if asked == "auto" else default
    selected = time.perf_counter()
    say(f"fitting {model.name} on all of train")
    model.fit(train)
    seconds = {"fit_seconds": time.perf_counter() - selected, "select_seconds": selected - start}
    return model, {**seconds, "selection": tried} if tried else seconds


def select_next_item(validation: Validation, seed: int, tried: dict[str, float]) -> NextItemModel:
    """Transitions with the best settings found, or popularity where that answers better; not fitted yet.

    tried : takes the validation ndcg of everything tried.
    """
    if len(validation.questions) < MIN_QUESTIONS:
        say(f"  {len(validation.questions)} questions to validate on, fewer than {MIN_QUESTIONS}: defaults are taken")
        return make_next_item("transitions", seed)
    say(f"  selecting on {len(validation.questions)} questions held out of {len(validation.train)} rows")
    popularity = NextPopularityModel()
    popularity.fit(validation.train)
    floor = validation.ndcg(popularity.servable())
    say(f"  popularity: validation ndcg@{validation.k} {floor:.4f}")
    settings, trials = choose_settings(validation, TransitionSettings(seed=seed))
    tried |= {"popularity": floor, **trials}
    return TransitionModel(settings) if max(trials.values()) > floor else popularity


def rank_prefixes(model: NextItemModel, prefixes: Sequences, k: int, masked: bool) -> Int32:
    """The k best items after each prefix, what it holds left out when ``masked``; (n, k) int32, -1 for none."""
    say(f"  ranking {model.n_items} items after {len(prefixes)} prefixes")
    parts = score_blocks(model.scores, prefixes, masked, lambda start, scores: top_k(scores, k))
    return np.concatenate([np.empty((0, k), dtype=np.int32), *parts])


def gains(ranked: Int32, targets: Int32) -> tuple[Float64, Float64, Float64]:
    """Hit, 1 / rank and 1 / log2(rank + 1) of each target, all 0 when it is not in its list; (n,) float64 each."""
    hits = (ranked == targets[:, None]) & (ranked >= 0)
    ranks = np.arange(1, ranked.shape[1] + 1)
    return tuple((hits * weights).sum(axis=1) for weights in (np.ones(len(ranks)), 1 / ranks, 1 / np.log2(ranks + 1)))


def relevant_items(questions: Questions, n_items: int) -> sp.csr_matrix:
    """(n, n_items), a one at each target inside the catalogue."""
    rows = np.flatnonzero(questions.targets >= 0)
    ones = np.ones(len(rows))
    return sp.csr_matrix((ones, (rows, questions.targets[rows])), shape=(len(questions), n_items))


def report_fields(model: NextItemModel, questions: Questions, metrics: Mapping[str, Float64]) -> dict[str, Any]:
    """What both formats report; HeadraceError if a metric is not finite."""
    # an exact sum, so that the order of the lines cannot show in the last digit
    means = {name: math.fsum(values.tolist()) / len(values) for name, values in metrics.items()}
    if not np.isfinite(list(means.values())).all():
        raise HeadraceError("a metric is not a finite number")
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "model": model.name,
        "parameters": dict(model.parameters),
        "items": model.n_items,
        **means,
        "unseen_test_items": questions.unseen_items,
        "peak_rss_bytes": sum(usage) * 1024,
    }
