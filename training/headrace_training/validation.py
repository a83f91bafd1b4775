"""What a next-item model is chosen by: questions held out of the training rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from headrace.types import Float32, Int32
from headrace_training.kernels.transitions import places_of
from headrace_training.models.servable import Servable
from headrace_training.models.transitions import (
    Parts,
    TransitionSettings,
    answer,
    assemble,
    count_pairs,
    popularity_of,
    spectral_matrix,
    transition_matrix,
)
from headrace_training.parallel import in_threads
from headrace_training.progress import say
from headrace_training.ranking import BLOCK_CELLS
from headrace_training.sequences import Questions, Sequences, sample_questions

MAX_QUESTIONS = 3000
MAX_ROWS = 15_000
SHARE = 10
"""The last tenth of the rows is held out, at most MAX_ROWS."""

STEPS: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("repeat", (0.0, 0.3, 1.0, 3.0)),
    ("repeat_decay", (0.6, 0.95)),
    ("half_life", (0.25, 0.5)),
    ("age_power", (0.5, 1.5, 2.0)),
    ("backward", (0.3, 1.0)),
    ("from_exponent", (0.5, 0.9)),
    ("to_exponent", (0.0, 0.2, 0.3)),
    ("shrink", (0.0, 10.0, 30.0)),
    ("lag_power", (0.3, 1.0)),
    ("max_lag", (5, 20)),
    ("spectral", (0.1, 0.3, 0.6, 1.0)),
    ("spectral_age_power", (0.5, 1.5)),
    ("repeat", (0.0, 0.3, 1.0, 3.0, 6.0)),
)
"""Settings in the order in which they are chosen, each with the others held, and the values tried."""

WEIGHTS = frozenset({"repeat", "repeat_decay", "age_power", "spectral", "spectral_age_power"})
"""Settings that change no matrix."""


@dataclass(frozen=True)
class Validation:
    """Rows to fit on, questions to answer, and the rules of the format.

    masked  : whether what a prefix holds is barred from the answer.
    ordered : whether the rows are in time order, so that late ones may count more.
    """

    train: Sequences
    questions: Questions
    k: int
    masked: bool
    ordered: bool

    def matters(self, setting: str) -> bool:
        """Whether a setting can be chosen here: repeats only if not masked, ageing only if rows are in time order."""
        return not (setting in ("repeat", "repeat_decay") and self.masked) and (setting != "half_life" or self.ordered)

    def ndcg(self, servable: Servable) -> float:
        """Mean over questions of 1 / log2(rank + 1), 0 beyond rank k."""
        targets = self.questions.targets

        def places_from(start: int, scores: Float32) -> Int32:
            found = np.empty(len(scores), dtype=np.int32)
            places_of(scores, targets[start : start + len(scores)], found)
            return found

        parts = score_blocks(partial(answer, servable), self.questions.prefixes, self.masked, places_from)
        places = np.concatenate([np.zeros(0, dtype=np.int32), *parts])
        return float(np.where(places < self.k, 1.0 / np.log2(places + 2.0), 0.0).mean())


def score_blocks(
    score: Callable[[Sequences], Float32],
    prefixes: Sequences,
    masked: bool,
    work: Callable[[int, Float32], Int32],
) -> list[Int32]:
    """``work`` of the first row and the scores of each block of prefixes, in their order, on all cores.

    A block has about BLOCK_CELLS scores; with ``masked``, those of what the prefix holds are -inf.
    """
    step = max(1, BLOCK_CELLS // max(1, prefixes.n_items))

    def block(start: int) -> Int32:
        part = prefixes.part(start, min(start + step, len(prefixes)))
        scores = score(part)
        if masked:
            scores[np.repeat(np.arange(len(part)), part.lengths), part.items] = -np.inf
        return work(start, scores)

    return in_threads(block, range(0, len(prefixes), step))


def hold_out_sessions(train: Sequences, k: int, seed: int) -> Validation:
    """The last rows, in the order of the file, are asked about; the others are learnt from."""
    cut = len(train) - min(MAX_ROWS, len(train) // SHARE)
    questions = sample_questions(train.part(cut, len(train)), MAX_QUESTIONS, np.random.default_rng(seed))
    return Validation(train.part(0, cut), questions, k, masked=False, ordered=True)


def hold_out_last(people: Sequences, train: Sequences, k: int, seed: int) -> Validation:
    """The last item but one of each person is asked for, after all that precedes it.

    people : whole rows.   train : the same without their last two items.
    """
    rows = np.flatnonzero(train.lengths)
    if len(rows) > MAX_QUESTIONS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MAX_QUESTIONS, replace=False))
    questions = Questions(train.take(rows), people.items[people.indptr[rows + 1] - 2])
    return Validation(train, questions, k, masked=True, ordered=False)


def choose_settings(validation: Validation, start: TransitionSettings) -> tuple[TransitionSettings, dict[str, float]]:
    """Coordinate ascent over STEPS; returns the best settings found, and the validation ndcg of all that was tried."""
    settings = replace(start, spectral=0.0)
    parts = _fit_parts(validation.train, settings)
    best = validation.ndcg(assemble(parts, settings))
    trials = {"transitions": best}
    for name, values in STEPS:
        if not (validation.matters(name) and _has_effect(name, settings)):
            continue
        if name == "spectral":
            parts = replace(parts, spectral=spectral_matrix(validation.train, settings))
        for value in values:
            changed: dict[str, Any] = {name: value}
            tried = replace(settings, **changed)
            fitted = parts if name in WEIGHTS else _fit_parts(validation.train, tried)
            found = validation.ndcg(assemble(fitted, tried))
            trials[f"{name} {value:g}"] = found
            if found > best:
                settings, parts, best = tried, fitted, found
        say(f"  {name} {getattr(settings, name):g}: validation ndcg@{validation.k} {best:.4f}")
    return settings, trials


def _fit_parts(train: Sequences, settings: TransitionSettings) -> Parts:
    return Parts(popularity_of(train), transition_matrix(count_pairs(train, settings), settings), None)


def _has_effect(name: str, settings: TransitionSettings) -> bool:
    """Whether a setting can change the answers, given the others."""
    return {"repeat_decay": settings.repeat > 0, "spectral_age_power": settings.spectral > 0}.get(name, True)
