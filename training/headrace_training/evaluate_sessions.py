"""How well a model tells the next item of a session; the rules are those of `headrace-train evaluate`, *sessions*."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from headrace.errors import DataError
from headrace_training.memory import require_for_file
from headrace_training.metrics import Catalogue, Outcome
from headrace_training.nextitem import (
    check_next_item_options,
    fit_next_item,
    gains,
    given_next_item,
    rank_prefixes,
    relevant_items,
    report_fields,
)
from headrace_training.openings import note_opening
from headrace_training.progress import say
from headrace_training.results import complete, digest_of
from headrace_training.sequences import read_questions, read_sessions
from headrace_training.validation import hold_out_sessions


def evaluate_sessions(
    train_path: Path,
    test_path: Path,
    *,
    model: str = "auto",
    k: int = 20,
    seed: int = 0,
    save: Path | None = None,
    parameters: Path | None = None,
) -> dict[str, Any]:
    """Select and fit on the sessions of one file, measure on the lines of another; the fields of the contract.

    Prefix items stay candidates; each line is answered alone. The test file is opened once, after the model is frozen.
    parameters is a file of `headrace-train search`, which then says the model too. Raises DataError, ConfigError.
    """
    check_next_item_options(model, k, seed)
    given = given_next_item(model, parameters, seed)
    if not test_path.exists():
        raise DataError(f"{test_path} does not exist", hint="give the test file with --test")
    require_for_file(train_path)
    train = read_sessions(train_path)
    say(f"train: {len(train)} sessions, {train.n_items} items, {len(train.items)} places from {train_path}")
    chosen, seconds = fit_next_item(given or model, train, lambda: hold_out_sessions(train, k, seed), seed)
    start = time.perf_counter()
    opened = note_opening(str(test_path.resolve()), chosen.name, save or parameters)
    questions = read_questions(test_path, train.item_ids)
    ranked = rank_prefixes(chosen, questions.prefixes, k, masked=False)
    hit, reciprocal, _ = gains(ranked, questions.targets)
    outcome = Outcome(
        unit="lines",
        names=[str(number) for number in range(1, len(questions) + 1)],
        ranked=ranked,
        relevant=relevant_items(questions, train.n_items),
        history=questions.prefixes.matrix(),
        accuracy={f"precision@{k}": hit, f"mrr@{k}": reciprocal},
        digest=digest_of(f"{number}\t{text}" for number, text in enumerate(questions.texts)),
    )
    found = report_fields(chosen, questions, {**outcome.accuracy, f"hit_rate@{k}": hit}) | seconds
    found |= {
        "lines": len(questions),
        "cold_lines": int(np.count_nonzero(questions.prefixes.lengths == 0)),
        "unseen_prefix_items": questions.unseen_prefix_items,
        "evaluate_seconds": time.perf_counter() - start,
    } | opened
    catalogue = Catalogue(item_ids=train.item_ids, taken=train.matrix())
    return complete(found, outcome, catalogue, format="sessions", seed=seed, save=save)
