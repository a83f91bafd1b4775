"""How well a model foretells the next basket; the rules are those of `headrace-train evaluate`, *baskets*."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace.types import Int32
from headrace_training.baskets import Baskets, read_baskets
from headrace_training.evaluate import Report, TestSet, check_options, report, rows_of
from headrace_training.memory import require_for_file, require_memory
from headrace_training.metrics import Catalogue, Outcome
from headrace_training.models.base import BasketModel
from headrace_training.models.frequency import frequency_models
from headrace_training.models.rhythm import RhythmModel, rhythm_memory_bytes
from headrace_training.openings import note_opening
from headrace_training.progress import say, track
from headrace_training.ranking import BLOCK_CELLS, Accuracy, accuracy, top_k
from headrace_training.results import complete, digest_of

BASKET_MODELS: dict[str, Callable[[int], BasketModel]] = {
    "g-topfreq": lambda seed: frequency_models()["g-topfreq"],
    "p-topfreq": lambda seed: frequency_models()["p-topfreq"],
    "gp-topfreq": lambda seed: frequency_models()["gp-topfreq"],
    "rhythm": lambda seed: RhythmModel(seed),
}

MIN_USERS = 20
"""With fewer people who have two baskets, GP-TopFreq is taken without a trial."""

MAX_USERS = 5000
"""People whose latest baskets models are tried on; a seeded sample when there are more."""


def evaluate_baskets(
    train_path: Path, test_path: Path, *, model: str = "auto", k: int = 20, seed: int = 0, save: Path | None = None
) -> Report:
    """Select and fit on the history, measure on the future; the contract's fields, those of `complete`, and baselines.

    ``baselines`` has recall@k and ndcg@k of G-, P- and GP-TopFreq on the same test set.
    The future is opened once, after all models are frozen. Raises DataError, ConfigError.
    """
    if model != "auto" and model not in BASKET_MODELS:
        raise ConfigError("--model", got=model, expected=f"auto, {', '.join(BASKET_MODELS)} with --format baskets")
    check_options("auto", k, seed)
    if not test_path.exists():
        raise DataError(f"{test_path} does not exist", hint="give the future's file with --test")
    require_for_file(train_path)
    train = read_baskets(train_path)
    say(f"train: {train.n_users} people, {train.n_items} items, {len(train.item_indptr) - 1} baskets from {train_path}")
    if model in ("auto", "rhythm"):
        hint = "take --model gp-topfreq, less data or a larger machine"
        require_memory(f"fitting rhythm on {len(train.items)} bought items", rhythm_memory_bytes(train), hint)
    start = time.perf_counter()
    chosen = BASKET_MODELS[select_baskets(train, k, seed) if model == "auto" else model](seed)
    selected = time.perf_counter()
    say(f"fitting {chosen.name} on all of train")
    chosen.fit(train)
    seconds = {"fit_seconds": time.perf_counter() - selected, "select_seconds": selected - start}
    baselines: dict[str, BasketModel] = {**frequency_models()}
    for baseline in baselines.values():
        baseline.fit(train)
    start = time.perf_counter()
    opened = note_opening(str(test_path.resolve()), chosen.name, save)
    future, later = read_baskets(test_path).split_first()
    test = build_basket_test(train, future)
    outcome, found = _measure(chosen, baselines["g-topfreq"], train, test, k)
    fields = report(chosen, test, found, k) | seconds
    fields["repeat_pairs"] = int(outcome.history.multiply(test.relevant.astype(bool)).nnz)
    fields["later_baskets"] = later
    fields["baselines"] = {
        name: _means(_measure(baseline, baselines["g-topfreq"], train, test, k)[1], k)
        for name, baseline in baselines.items()
    }
    fields |= {"evaluate_seconds": time.perf_counter() - start} | opened
    catalogue = Catalogue(item_ids=train.item_ids, taken=train.counts())
    return complete(fields, outcome, catalogue, format="baskets", seed=seed, save=save)


def build_basket_test(train: Baskets, future: Baskets) -> TestSet:
    """Bring each person's future basket into train's indices; nothing is left out, repeats being what is looked for.

    People without a basket there are skipped; those without one in train have row -1.
    """
    users = np.flatnonzero(future.n_baskets)
    index = {name: row for row, name in enumerate(train.user_ids)}
    columns = {name: column for column, name in enumerate(train.item_ids)}
    known = train.n_baskets > 0
    names = [future.user_ids[user] for user in users.tolist()]
    rows = np.array([row if (row := index.get(name, -1)) >= 0 and known[row] else -1 for name in names], np.int32)
    of_item = np.array([columns.get(name, -1) for name in future.item_ids], dtype=np.int64)
    wanted = future.counts()[users]
    n_relevant = np.diff(wanted.indptr).astype(np.int32)
    inside = wanted[:, of_item >= 0].tocoo()
    places = of_item[of_item >= 0][inside.col]
    relevant = sp.csr_matrix((inside.data, (inside.row, places)), shape=(len(users), train.n_items))
    at = np.repeat(np.arange(len(users)), n_relevant)
    pairs = zip(at.tolist(), wanted.indices.tolist(), strict=True)
    digest = digest_of(f"{names[row]}\t{future.item_ids[item]}" for row, item in pairs)
    return TestSet(rows, relevant, n_relevant, 0, int((of_item < 0).sum()), names, digest)


def rank_baskets(model: BasketModel, users: Int32, k: int) -> Int32:
    """The k best items of each person, bought ones among them; (len(users), k) int32, -1 for none."""
    step = max(1, BLOCK_CELLS // max(1, model.n_items))
    parts = [np.empty((0, k), dtype=np.int32)]
    starts = range(0, len(users), step)
    for start in track(starts, "ranking", total=len(starts)):
        parts.append(top_k(model.scores(users[start : start + step]), k))
    return np.concatenate(parts)


def select_baskets(train: Baskets, k: int, seed: int) -> str:
    """The model with the best recall@k on the latest baskets within train, given those before; the earlier at a tie."""
    before, latest = train.split_last()
    users = np.flatnonzero(latest.n_baskets).astype(np.int32)
    if len(users) < MIN_USERS:
        say(f"  {len(users)} people with two baskets, fewer than {MIN_USERS}: gp-topfreq is taken")
        return "gp-topfreq"
    if len(users) > MAX_USERS:
        users = np.sort(np.random.default_rng(seed).choice(users, MAX_USERS, replace=False))
    held = latest.counts()[users]
    best = ("", -1.0)
    for name, make in BASKET_MODELS.items():
        model = make(seed)
        model.fit(before)
        ranked = rank_baskets(model, users, k)
        recall = accuracy(ranked, held, np.diff(held.indptr).astype(np.int32)).means[0]
        say(f"  {name}: validation recall@{k} {recall:.4f}")
        best = max(best, (name, recall), key=lambda pair: pair[1])
    return best[0]


def _measure(
    model: BasketModel, fallback: BasketModel, train: Baskets, test: TestSet, k: int
) -> tuple[Outcome, Accuracy]:
    ranked = np.full((len(test.rows), k), -1, dtype=np.int32)
    warm, cold = test.rows >= 0, test.rows < 0
    ranked[warm] = rank_baskets(model, test.rows[warm], k)
    if cold.any():
        ranked[cold] = rank_baskets(fallback, np.zeros(1, dtype=np.int32), k)
    found = accuracy(ranked, test.relevant, test.n_relevant)
    outcome = Outcome(
        unit="users",
        names=test.names,
        ranked=ranked,
        relevant=test.relevant,
        history=rows_of(train.counts(), test.rows, (len(test.rows), train.n_items)),
        accuracy={f"recall@{k}": found.recall, f"ndcg@{k}": found.ndcg},
        digest=test.digest,
    )
    return outcome, found


def _means(found: Accuracy, k: int) -> dict[str, float]:
    recall, ndcg = found.means
    return {f"recall@{k}": recall, f"ndcg@{k}": ndcg}
