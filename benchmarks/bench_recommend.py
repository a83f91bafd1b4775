"""Fold-in and top-10 against implicit and plain NumPy: one query, and all users at once.

    OPENBLAS_NUM_THREADS=1 python -m pytest benchmarks/bench_recommend.py --benchmark-columns=median,iqr,min,rounds

20,000 items, d = 64, float32, histories of 50 items, one thread for every contender, the person's items masked. Times
are CPU seconds of the process. Every contender's answer is first checked against the first one's: equal items but for
scores that tie within rounding. The targets are
asserted by bench_topk.py, where the contenders take turns.

Then `Recommend` from bytes to bytes over 100,000 items (fold-in, filter, lift of repeats, k = 20), by calls in a batch,
for people asked for the first time and again, over factors alone and with the blend (histories of 30 items, 100 links
an item): CPU a call is the median over its rounds divided by the batch. And the
exact scan against Faiss at 100,000 and 1,000,000 items, one query and 32 at once, recall@20 printed for each.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import math
import platform
import time
import tracemalloc
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp

from headrace._native import Retriever
from headrace.artifact_format import BlendTerms
from headrace.artifacts import Artifact
from headrace.events.log import EventLog
from headrace.events.store import Store
from headrace.front import Call
from headrace.recommend.batch import top_k_all
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace.service.recommender import RecommenderService
from headrace.v1 import recommender_pb2 as pb

N_USERS, N_ITEMS, D, HISTORY, K = 4_096, 20_000, 64, 50, 10
BLEND_HISTORY, N_LINKS = 30, 100
N_ASKING = 400
"""People who ask one by one, each for the first time, so that nothing of them is remembered."""

MAX_EXTRA_BYTES = 64 << 20
CONTENDERS = ["headrace", "implicit", "numpy"]

Slates = tuple[np.ndarray, np.ndarray]
"""Items and scores, a row a user."""


def load_factories() -> Any:
    """The module tests/factories.py."""
    path = Path(__file__).parents[1] / "tests" / "factories.py"
    spec = importlib.util.spec_from_file_location("factories", path)
    assert spec is not None
    assert spec.loader is not None
    factories = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(factories)
    return factories


def made_artifact() -> Artifact:
    """The tests' artifact, with histories of purchases alone, so that masks mean the same to every contender."""
    factories = load_factories()
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


@pytest.fixture(scope="module", params=["factors", "blend"])
def big(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[RecommenderService]:
    store = Store(tmp_path_factory.mktemp("big") / "log.sqlite")
    log = EventLog(store)
    made = load_factories().make_artifact(20_000, 100_000, D, history=BLEND_HISTORY, repeat_boost=1.0, repeat_days=60.0)
    built = Recommender(Model(blended(made) if request.param == "blend" else made, log), log)
    built.warm()
    yield RecommenderService(built)
    store.close()


def blended(artifact: Artifact) -> Artifact:
    """The same with 100 links an item to popular and less popular ones, and as many transitions."""
    n_items = len(artifact.item_ids)
    rng = np.random.default_rng(3)
    items = (n_items * rng.power(0.3, n_items * N_LINKS)).astype(np.int32)
    parts = {"indptr": np.arange(n_items + 1) * N_LINKS, "items": items, "weights": rng.random(len(items), np.float32)}
    arrays: dict[str, Any] = {
        f"{kind}_link_{name}": part for kind in ("item", "session") for name, part in parts.items()
    }
    terms = BlendTerms(item_weight=0.02, power=0.5, half_life_days=30.0, length_power=0.5, session_weight=0.02)
    decay = np.array([1.0, 0.5, 0.25], np.float32)
    return dataclasses.replace(
        artifact, manifest=msgspec.structs.replace(artifact.manifest, blend=terms), session_decay=decay, **arrays
    )


@pytest.mark.parametrize("asked", ["again", "first time"])
@pytest.mark.parametrize("n_calls", [1, 8, 32])
@pytest.mark.benchmark(group="Recommend, 100,000 items: one batch", timer=time.process_time)
def test_calls(
    n_calls: int, asked: str, benchmark: Any, big: RecommenderService, request: pytest.FixtureRequest
) -> None:
    first = {1: 0, 8: 4_000, 32: 10_000}[n_calls]  # so that no run meets another's people
    users = iter(range(first, 20_000))
    known = itertools.cycle(range(first, first + 640))

    def batch() -> list[Call]:
        chosen = [next(known if asked == "again" else users) for _ in range(n_calls)]
        bodies = [pb.RecommendRequest(user_id=f"u{user}").SerializeToString() for user in chosen]
        return [Call("", body, math.inf, "", {}, None) for body in bodies]

    if asked == "again":
        for _ in range(640 // n_calls):
            assert all(isinstance(answer, bytes) for answer in big.recommend(batch()))
    benchmark.pedantic(big.recommend, setup=lambda: ((batch(),), {}), rounds=200)
    benchmark.extra_info["us_a_call"] = round(benchmark.stats.stats.median * 1e6 / n_calls, 1)
    took = benchmark.extra_info["us_a_call"]
    print(f"{request.node.callspec.params['big']}, {n_calls} calls, asked {asked}: {took} us a call")


SEARCHES = ["headrace", "IndexFlatIP", "SQ8", "HNSW32"]


def search_contender(name: str, items: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Queries to rows of the best 20."""
    n_items = len(items)
    if name == "headrace":
        native = Retriever(items, np.arange(n_items, dtype=np.int32), np.zeros(n_items, np.float32), 0.0, 1.0)
        barred = np.zeros(n_items, dtype=np.uint32)

        def search(queries: np.ndarray) -> np.ndarray:
            n, none = len(queries), np.zeros(len(queries) + 1, dtype=np.int64)
            rows, scores = np.empty((n, 20), np.int32), np.empty((n, 20), np.float32)
            counts, no_rows, flags = np.empty(n, np.int32), np.empty(0, np.int32), np.ones(n, np.int8)
            native.retrieve(
                queries, flags, np.full(n, 20, np.int32), flags, none, no_rows, np.empty(0, np.float32), none[:0],
                none[:n], none, no_rows, None, None, barred, rows, scores, counts, counts,
            )  # fmt: skip
            return rows

        return search
    faiss = pytest.importorskip("faiss")
    faiss.omp_set_num_threads(1)
    if name == "IndexFlatIP":
        index = faiss.IndexFlatIP(D)
    elif name == "SQ8":
        index = faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
        index.train(items)
    else:
        index = faiss.IndexHNSWFlat(D, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = 120, 512
    index.add(items)
    return lambda queries: index.search(queries, 20)[1]


@pytest.mark.parametrize("contender", SEARCHES)
@pytest.mark.parametrize("n_items", [100_000, 1_000_000])
@pytest.mark.benchmark(group="top-20 of all items", timer=time.process_time)
def test_search(contender: str, n_items: int, benchmark: Any) -> None:
    if contender == "HNSW32" and n_items > 100_000:
        pytest.skip("a quarter of an hour to build")
    rng = np.random.default_rng(0)
    items = (rng.normal(size=(n_items, D)) * 0.3).astype(np.float32)
    queries = rng.normal(size=(32, D)).astype(np.float32)
    search, truth = search_contender(contender, items), np.argsort(-(queries @ items.T), axis=1)[:, :20]
    recall = np.mean([len(set(a.tolist()) & set(b.tolist())) / 20 for a, b in zip(search(queries), truth, strict=True)])
    started = time.process_time()
    for _ in range(4):
        search(queries)
    together = (time.process_time() - started) / 4 / 32
    each = itertools.cycle(range(32))
    benchmark.pedantic(lambda i: search(queries[i : i + 1]), setup=lambda: ((next(each),), {}), rounds=64)
    alone = benchmark.stats.stats.median
    benchmark.extra_info.update(recall=round(float(recall), 4), us_a_query_of_32=round(together * 1e6, 1))
    print(f"{contender}, {n_items} items: recall {recall:.4f}, {alone * 1e6:.0f} us alone, {together * 1e6:.0f} of 32")
    if contender == "headrace":
        assert recall >= 0.999  # ties within rounding of the product
