"""How well a model ranks what people did next; the rules are those of `headrace-train evaluate`, *interactions*."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from headrace.artifacts import open_artifact
from headrace.errors import DataError, HeadraceError
from headrace.types import Bool, Int32
from headrace_training.datasets import Pairs, read_pairs
from headrace_training.items import add_items
from headrace_training.memory import require_for_file, require_for_fit
from headrace_training.metrics import Catalogue, Outcome, item_age_days
from headrace_training.models import MODELS, Model, PopularityModel, make_model
from headrace_training.models.artifact import ArtifactModel
from headrace_training.models.ials import IalsTrainer
from headrace_training.models.sideinfo import lean_on
from headrace_training.openings import note_opening
from headrace_training.options import check_asked
from headrace_training.progress import say
from headrace_training.ranking import Accuracy, accuracy, rank_users
from headrace_training.results import complete, digest_of
from headrace_training.search import read_parameters
from headrace_training.select import select_model

Report = dict[str, Any]


@dataclass(frozen=True)
class TestSet:
    """Test users in order of their first test line, against one catalogue.

    rows : (n,) int32 row of the user in train, -1 for users without any train item.
    relevant : (n, n_items) the test items inside the catalogue, each once.
    n_relevant : (n,) int32, >= 1, those outside it included.
    names : n ids of the users.   digest : of the pairs that are measured, by headrace_training.results.digest_of.
    """

    rows: Int32
    relevant: sp.csr_matrix
    n_relevant: Int32
    overlap_pairs: int
    unseen_test_items: int
    names: list[str]
    digest: str

    @property
    def cold_users(self) -> int:
        return int((self.rows < 0).sum())


def build_test_set(
    train: sp.csr_matrix,
    user_index: dict[str, int],
    item_index: dict[str, int],
    test: Pairs,
    known: Bool | None = None,
) -> TestSet:
    """Bring test pairs into train's indices and leave out those that train stores.

    known : (n_users,) bool, who is not cold; those with train items by default.

    Raises DataError when no test pair is left to measure on.
    """
    n_items = train.shape[1]
    rows = np.array([user_index.get(name, -1) for name in test.user_ids], dtype=np.int32)
    has_items = np.diff(train.indptr) > 0 if known is None else known
    rows[rows >= 0] = np.where(has_items[rows[rows >= 0]], rows[rows >= 0], -1)
    columns = np.array([item_index.get(name, -1) for name in test.item_ids], dtype=np.int64)
    unseen = np.flatnonzero(columns < 0)
    # items outside the catalogue get columns after it, so that each is counted once a user
    columns[unseen] = n_items + np.arange(len(unseen))
    shape = (len(rows), n_items + len(unseen))
    wanted = _ones(sp.csr_matrix((np.ones(len(test.users)), (test.users, columns[test.items])), shape=shape))
    overlap = wanted.multiply(rows_of(train, rows, shape)).tocsr()
    wanted = (wanted - overlap).tocsr()
    wanted.eliminate_zeros()
    n_relevant = np.diff(wanted.indptr).astype(np.int32)
    users = np.flatnonzero(n_relevant)
    if not len(users):
        raise DataError("no test pair is left", hint="all of them are in train too, or the test file has no items")
    names = dict(zip(columns.tolist(), test.item_ids, strict=True))
    pairs = zip(*(part.tolist() for part in wanted.nonzero()), strict=True)
    return TestSet(
        rows[users],
        wanted[users][:, :n_items],
        n_relevant[users],
        overlap.nnz,
        len(unseen),
        [test.user_ids[user] for user in users.tolist()],
        digest_of(f"{test.user_ids[user]}\t{names[column]}" for user, column in pairs),
    )


def rows_of(matrix: sp.csr_matrix, rows: Int32, shape: tuple[int, int]) -> sp.csr_matrix:
    """Ones where the given rows of the matrix store something, nothing for row -1; widened to ``shape``."""
    warm = np.flatnonzero(rows >= 0)
    picked = sp.csr_matrix((np.ones(len(warm)), (warm, rows[warm])), shape=(len(rows), matrix.shape[0]))
    found = sp.csr_matrix(picked @ _ones(matrix))
    found.resize(shape)
    return found


def _ones(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """The same pattern with every stored value 1."""
    copy = matrix.copy()
    copy.sum_duplicates()
    copy.data = np.ones_like(copy.data)
    return copy


def rank_test(model: Model, fallback: Model, train: sp.csr_matrix, test: TestSet, k: int) -> Int32:
    """The k best items that are not in train; users without train items are ranked by the fallback; (n, k) int32."""
    ranked = np.full((len(test.rows), k), -1, dtype=np.int32)
    warm = np.flatnonzero(test.rows >= 0)
    cold = np.flatnonzero(test.rows < 0)
    if len(warm):
        ranked[warm] = rank_users(model, test.rows[warm], k, train)
    if len(cold):
        ranked[cold] = rank_users(fallback, np.zeros(1, dtype=np.int32), k, None)
    return ranked


def measure(model: Model, fallback: Model, train: sp.csr_matrix, test: TestSet, k: int) -> Accuracy:
    """Accuracy of what `rank_test` gives."""
    return accuracy(rank_test(model, fallback, train, test, k), test.relevant, test.n_relevant)


def warn_of_overlap(test: TestSet) -> None:
    """Say so when test pairs were left out because train has them too."""
    if test.overlap_pairs:
        say(f"warning: {test.overlap_pairs} test pairs are in train too; they are left out")


def check_options(model: str, k: int, seed: int) -> None:
    """ConfigError for an unknown model, a k below 1 or a seed that is none."""
    check_asked(model, MODELS, k, seed)


def evaluate_files(
    train_path: Path,
    test_path: Path,
    *,
    model: str = "auto",
    k: int = 20,
    seed: int = 0,
    save: Path | None = None,
    parameters: Path | None = None,
    items: Path | None = None,
) -> Report:
    """Select and fit on one file, measure on another; returns the fields of the contract and those of `complete`.

    parameters : a file of `headrace-train search`, which then says the model too.
    items : a file of attributes; its items join the catalogue, those that nobody took too.
    The test file is opened once, after the model is frozen. Raises DataError, ConfigError.
    """
    check_options(model, k, seed)
    given = given_model(model, parameters, seed)
    if not test_path.exists():
        raise DataError(f"{test_path} does not exist", hint="give the test file with --test")
    require_for_file(train_path)
    pairs, known, attributes = add_items(read_pairs(train_path), items)
    train = pairs.matrix()
    say(f"train: {train.shape[0]} users, {train.shape[1]} items, {train.nnz} pairs from {train_path}")
    latest = latest_times(pairs, train)
    watch = save is not None
    chosen, seconds = fit_model(given or model, train, latest, k, seed, watch=watch, attributes=attributes)
    ages = None if pairs.times_ms is None else item_age_days(pairs.items, pairs.times_ms, train.shape[1])
    catalogue = Catalogue(item_ids=pairs.item_ids, taken=train, age_days=ages)
    opened = note_opening(str(test_path.resolve()), chosen.name, save or parameters)
    found, outcome = _measure_file(chosen, catalogue, pairs.user_ids, test_path, k)
    return complete(found | seconds | opened | known, outcome, catalogue, format="interactions", seed=seed, save=save)


def evaluate_artifact(path: Path, test_path: Path, *, k: int = 20, seed: int = 0, save: Path | None = None) -> Report:
    """Measure an artifact's factors on a file; catalogue and train items are those of the artifact."""
    check_options("auto", k, seed)
    artifact = open_artifact(path)
    model = ArtifactModel(artifact)
    user_ids = artifact.user_ids.ids(range(len(artifact.user_ids)))
    ages = item_age_days(artifact.history_items, artifact.history_times_ms, model.n_items)
    item_ids = artifact.item_ids.ids(range(model.n_items))
    catalogue = Catalogue(item_ids=item_ids, taken=model.train, age_days=ages)
    opened = note_opening(str(test_path.resolve()), model.name, save)
    found, outcome = _measure_file(model, catalogue, user_ids, test_path, k)
    seconds = {"fit_seconds": 0.0, "select_seconds": 0.0}
    return complete(found | seconds | opened, outcome, catalogue, format="interactions", seed=seed, save=save)


def latest_times(pairs: Pairs, train: sp.csr_matrix) -> sp.csr_matrix | None:
    """Last time of each stored pair, stored alike; None when the pairs have no times."""
    if pairs.times_ms is None:
        return None
    order = np.argsort(pairs.times_ms, kind="stable")
    places = sp.csr_matrix((np.arange(1, train.nnz + 1), train.indices, train.indptr), shape=train.shape)
    latest = np.zeros(train.nnz)
    at = np.asarray(places[pairs.users[order], pairs.items[order]]).ravel() - 1
    latest[at[at >= 0]] = pairs.times_ms[order][at >= 0]
    return sp.csr_matrix((latest, train.indices, train.indptr), shape=train.shape)


def given_model(name: str, parameters: Path | None, seed: int) -> Model | None:
    """The model of a parameters file, not fitted; None without one. ConfigError when another model was named."""
    if parameters is None:
        return None
    found, values = read_parameters(parameters, name)
    return make_model(found, seed, values)


def watch_losses(model: Model) -> list[float]:
    """A list that gets the loss after each epoch of the iALS in the model; it stays empty where there is none."""
    losses: list[float] = []
    trainer = getattr(getattr(model, "ials", model), "trainer", None)
    if isinstance(trainer, IalsTrainer):
        trainer.watch = lambda als: losses.append(als.loss())
    return losses


def fit_model(
    asked: str | Model,
    train: sp.csr_matrix,
    latest: sp.csr_matrix | None,
    k: int,
    seed: int,
    *,
    watch: bool = False,
    attributes: sp.csr_matrix | None = None,
) -> tuple[Model, Report]:
    """Select when asked to, fit on all of train; returns the model, select_seconds and fit_seconds, and for `auto` what
    was tried: `selection`, validation recall@k by name.

    asked : "auto", a model's name, or a model that is not fitted yet.   watch : take the loss after each epoch too.
    attributes : of the items, which the model's factors then lean on.
    """
    start = time.perf_counter()
    tried: Report = {}
    if asked == "auto":
        model, trials = select_model(train, latest, k, seed)
        tried = {"selection": trials.scores}
    else:
        model = make_model(asked, seed) if isinstance(asked, str) else asked
    if attributes is not None:
        model = lean_on(model, attributes)
    selected = time.perf_counter()
    require_for_fit(model, train)
    say(f"fitting {model.name} on all of train")
    losses = watch_losses(model) if watch else []
    model.fit(train)
    tried |= {"curves": {"loss": losses}} if losses else {}
    return model, {"fit_seconds": time.perf_counter() - selected, "select_seconds": selected - start} | tried


def _measure_file(
    model: Model, catalogue: Catalogue, user_ids: Sequence[str], path: Path, k: int
) -> tuple[Report, Outcome]:
    start = time.perf_counter()
    user_index, item_index = ({name: idx for idx, name in enumerate(ids)} for ids in (user_ids, catalogue.item_ids))
    test = build_test_set(catalogue.taken, user_index, item_index, read_pairs(path))
    warn_of_overlap(test)
    found, outcome = measure_outcome(model, catalogue.taken, test, k)
    return found | {"evaluate_seconds": time.perf_counter() - start}, outcome


def measure_outcome(model: Model, train: sp.csr_matrix, test: TestSet, k: int) -> tuple[Report, Outcome]:
    """Rank and measure; returns the contract's fields but for the seconds, and what they are means of."""
    fallback = PopularityModel()
    fallback.fit(train)
    ranked = rank_test(model, fallback, train, test, k)
    found = accuracy(ranked, test.relevant, test.n_relevant)
    outcome = Outcome(
        unit="users",
        names=test.names,
        ranked=ranked,
        relevant=test.relevant,
        history=rows_of(train, test.rows, (len(test.rows), train.shape[1])),
        accuracy={f"recall@{k}": found.recall, f"ndcg@{k}": found.ndcg},
        digest=test.digest,
    )
    return report(model, test, found, k), outcome


def report(model: Model, test: TestSet, found: Accuracy, k: int) -> Report:
    """The contract's fields but for the seconds; HeadraceError if a metric is not finite."""
    recall, ndcg = found.means
    if not (np.isfinite(recall) and np.isfinite(ndcg)):
        raise HeadraceError("a metric is not a finite number")
    usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "model": model.name,
        "parameters": dict(model.parameters),
        "users": len(test.rows),
        "items": int(test.relevant.shape[1]),
        f"recall@{k}": recall,
        f"ndcg@{k}": ndcg,
        "cold_users": test.cold_users,
        "unseen_test_items": test.unseen_test_items,
        "overlap_pairs": test.overlap_pairs,
        "peak_rss_bytes": sum(usage) * 1024,
    }
