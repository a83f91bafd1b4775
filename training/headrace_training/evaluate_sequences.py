"""How well a model tells each person's last item; the rules are those of `headrace-train evaluate`, *sequences*."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

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
from headrace_training.sequences import Questions, Sequences, read_people
from headrace_training.validation import hold_out_last


def evaluate_sequences(
    path: Path,
    *,
    model: str = "auto",
    k: int = 20,
    seed: int = 0,
    save: Path | None = None,
    parameters: Path | None = None,
) -> dict[str, Any]:
    """Fit on all but the last two items of each person, choose by the last but one, measure on the last.

    All items of the file are ranked but those that the person had before. parameters is a file of
    `headrace-train search`, which then says the model too. Raises DataError, ConfigError.
    """
    check_next_item_options(model, k, seed)
    given = given_next_item(model, parameters, seed)
    require_for_file(path)
    names, people = read_people(path)
    train = people.without_last(2)
    say(f"train: {len(people)} people, {people.n_items} items, {len(train.items)} places from {path}")
    chosen, seconds = fit_next_item(given or model, train, lambda: hold_out_last(people, train, k, seed), seed)
    start = time.perf_counter()
    opened = note_opening(f"{path.resolve()}, last items", chosen.name, save or parameters)
    questions = last_items(people)
    repeated = count_repeated(questions)
    if repeated:
        say(f"warning: {repeated} last items are among the person's earlier ones; they are masked, so they are misses")
    ranked = rank_prefixes(chosen, questions.prefixes, k, masked=True)
    hit, _, ndcg = gains(ranked, questions.targets)
    wanted = [people.item_ids[item] for item in questions.targets.tolist()]
    outcome = Outcome(
        unit="users",
        names=names,
        ranked=ranked,
        relevant=relevant_items(questions, people.n_items),
        history=questions.prefixes.matrix(),
        accuracy={f"hit_rate@{k}": hit, f"ndcg@{k}": ndcg},
        digest=digest_of(f"{name}\t{item}" for name, item in zip(names, wanted, strict=True)),
    )
    found = report_fields(chosen, questions, outcome.accuracy) | seconds
    found |= {
        "users": len(names),
        "cold_users": int(np.count_nonzero(questions.prefixes.lengths == 0)),
        "overlap_pairs": repeated,
        "evaluate_seconds": time.perf_counter() - start,
    } | opened
    catalogue = Catalogue(item_ids=people.item_ids, taken=train.matrix())
    return complete(found, outcome, catalogue, format="sequences", seed=seed, save=save)


def last_items(people: Sequences) -> Questions:
    """Each person's last item, after all before it."""
    return Questions(people.without_last(1), people.items[people.indptr[1:] - 1])


def count_repeated(questions: Questions) -> int:
    """How many targets are in their own prefix."""
    owner = np.repeat(np.arange(len(questions)), questions.prefixes.lengths)
    return len(np.unique(owner[questions.prefixes.items == questions.targets[owner]]))
