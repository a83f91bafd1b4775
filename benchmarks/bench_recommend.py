"""Fold-in and top-10 against implicit and plain NumPy: one query, and all users at once.

    OPENBLAS_NUM_THREADS=1 python -m pytest benchmarks/bench_recommend.py --benchmark-columns=median,iqr,min,rounds

20,000 items, d = 64, float32, histories of 50 items, one thread for every contender, the person's items masked. Times
are CPU seconds of the process. Every contender's answer is first checked against the first one's: equal items but for
scores that tie within rounding. Targets: one query at most half of implicit's ``recommend(recalculate_user=True)``;
all users at least twice as fast as implicit with at most 64 MB beside inputs and outputs.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.artifacts import Artifact
from headrace.events.log import EventLog
from headrace.events.store import Store
from headrace.recommend.batch import top_k_all
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender

N_USERS, N_ITEMS, D, HISTORY, K = 4_096, 20_000, 64, 50, 10
N_ASKING = 400
"""People who ask one by one, each for the first time, so that nothing of them is remembered."""

MAX_EXTRA_BYTES = 64 << 20
CONTENDERS = ["headrace", "implicit", "numpy"]

Slates = tuple[np.ndarray, np.ndarray]
"""Items and scores, a row a user."""


def made_artifact() -> Artifact:
    """The tests' artifact, with histories of purchases alone, so that masks mean the same to every contender."""
    path = Path(__file__).parents[1] / "tests" / "factories.py"
    spec = importlib.util.spec_from_file_location("factories", path)
    assert spec is not None
    assert spec.loader is not None
    factories = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factories)
    made: Artifact = factories.make_artifact(
        N_USERS, N_ITEMS, D, history=HISTORY, repeat_policy="exclude_purchased", alpha=8.0, regularization=0.05
    )
    types = np.full_like(made.history_types, factories.PURCHASE)
    weights = np.random.default_rng(1).integers(1, 4, len(types)).astype(np.float32)
    return dataclasses.replace(made, history_types=types, history_weights=weights)


@pytest.fixture(scope="module")
def artifact() -> Artifact:
    return made_artifact()


@pytest.fixture(scope="module")
def histories(artifact: Artifact) -> sp.csr_matrix:
    parts = (artifact.history_weights, artifact.history_items, artifact.history_indptr)
    return sp.csr_matrix(parts, shape=(N_USERS, N_ITEMS))


@pytest.fixture(scope="module")
def recommender(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recommender]:
    store = Store(tmp_path_factory.mktemp("log") / "log.sqlite")
    log = EventLog(store)
    built = Recommender(Model(artifact, log), log)
    built.warm()
    yield built
    store.close()


@pytest.fixture(scope="module")
def implicit_model(artifact: Artifact) -> Any:
    als = pytest.importorskip("implicit.cpu.als", reason="implicit is not installed: install the extra 'train'")
    manifest = artifact.manifest
    model = als.AlternatingLeastSquares(
        factors=D, alpha=manifest.alpha, regularization=manifest.regularization, num_threads=1
    )
    model.item_factors, model.user_factors = np.array(artifact.item_factors), np.array(artifact.user_factors)
    return model


def assert_same(found: Slates, wanted: Slates) -> None:
    """Equal scores by rank, and equal items wherever a score stands clear of its neighbours'."""
    np.testing.assert_allclose(found[1], wanted[1], rtol=2e-3, atol=1e-4)
    differ = found[0] != wanted[0]
    gaps = np.abs(np.diff(wanted[1], axis=1))
    near = np.zeros_like(differ)
    near[:, :-1] |= gaps < 2e-4
    near[:, 1:] |= gaps < 2e-4
    near[:, -1] = True  # the one behind the last place may tie with it
    assert not (differ & ~near).any()


def single_contenders(recommender: Recommender, implicit_model: Any, histories: sp.csr_matrix) -> dict[str, Any]:
    """One query each: user number to items and scores."""
    artifact = recommender.model.artifact
    gram = artifact.gram + artifact.manifest.regularization * np.eye(D, dtype=np.float32)
    alpha = np.float32(artifact.manifest.alpha)

    def ours(user: int) -> Slates:
        (answer,) = recommender.recommend([Query(f"u{user}", limit=K)])
        assert isinstance(answer, Answer)
        return np.array(answer.rows), np.array(answer.scores)

    def implicits(user: int) -> Slates:
        items, scores = implicit_model.recommend(user, histories[user], N=K, recalculate_user=True)
        return items, scores

    def plain(user: int) -> Slates:
        span = slice(histories.indptr[user], histories.indptr[user + 1])
        rows, confidences = histories.indices[span], alpha * histories.data[span]
        chosen = artifact.item_factors[rows]
        system = gram + (chosen.T * (confidences - np.float32(1.0))) @ chosen
        scores = artifact.item_factors @ np.linalg.solve(system, chosen.T @ confidences)
        scores[rows] = -np.inf
        best = np.argpartition(-scores, K)[:K]
        best = best[np.lexsort((best, -scores[best]))]
        return best, scores[best]

    return {"headrace": ours, "implicit": implicits, "numpy": plain}


def batch_contenders(artifact: Artifact, implicit_model: Any, histories: sp.csr_matrix) -> dict[str, Any]:
    """All users' stored factors against all items, what they have bought masked."""
    users, items = np.array(artifact.user_factors), np.array(artifact.item_factors)
    indptr, seen = histories.indptr.astype(np.int64), histories.indices.astype(np.int32)

    def plain() -> Slates:
        best, scores = np.empty((N_USERS, K), dtype=np.int64), np.empty((N_USERS, K), dtype=np.float32)
        for first in range(0, N_USERS, 256):
            part = users[first : first + 256] @ items.T
            rows = np.repeat(np.arange(len(part)), np.diff(indptr[first : first + len(part) + 1]))
            part[rows, seen[indptr[first] : indptr[first + len(part)]]] = -np.inf
            top = np.argpartition(-part, K, axis=1)[:, :K]
            values = np.take_along_axis(part, top, axis=1)
            order = np.lexsort((top, -values), axis=1)
            best[first : first + 256] = np.take_along_axis(top, order, axis=1)
            scores[first : first + 256] = np.take_along_axis(values, order, axis=1)
        return best, scores

    return {
        "headrace": lambda: top_k_all(users, items, indptr, seen, K),
        "implicit": lambda: implicit_model.recommend(np.arange(N_USERS), histories, N=K),
        "numpy": plain,
    }


@pytest.fixture(scope="module", autouse=True)
def _machine() -> None:
    names = ("headrace", "implicit", "numpy", "numba")
    print(f"\n{platform.processor() or platform.machine()}; " + ", ".join(f"{n} {version(n)}" for n in names))


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group="fold-in + exact top-10, one query", timer=time.process_time, warmup=True)
def test_one_query(
    contender: str, benchmark: Any, recommender: Recommender, implicit_model: Any, histories: sp.csr_matrix
) -> None:
    run = single_contenders(recommender, implicit_model, histories)
    for user in (0, 1, 17, 399):  # among those that warm up
        found, wanted = run[contender](user), run["headrace"](user)
        assert_same((found[0][None], found[1][None]), (wanted[0][None], wanted[1][None]))
    users = iter(range(10**9))
    benchmark.pedantic(lambda: run[contender](next(users)), rounds=N_ASKING, iterations=1, warmup_rounds=N_ASKING)
    recommender.slates.flush()


@pytest.mark.parametrize("contender", CONTENDERS)
@pytest.mark.benchmark(group=f"top-10 of {N_USERS} users, seen items masked", timer=time.process_time)
def test_all_users(
    contender: str, benchmark: Any, artifact: Artifact, implicit_model: Any, histories: sp.csr_matrix
) -> None:
    run: dict[str, Callable[[], Slates]] = batch_contenders(artifact, implicit_model, histories)
    found, wanted = run[contender](), run["headrace"]()
    assert_same(found, wanted)
    tracemalloc.start()
    run[contender]()
    extra = tracemalloc.get_traced_memory()[1] - sum(array.nbytes for array in found)
    tracemalloc.stop()
    benchmark.extra_info["extra_bytes_seen_by_tracemalloc"] = extra
    if contender == "headrace":
        assert extra <= MAX_EXTRA_BYTES
    benchmark.pedantic(run[contender], rounds=5, iterations=1)
