"""Rankings against implicit: all users at once, item-item models, and one person folded in from a history.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_topk.py [--data DIR]

Contenders answer in one run, one after the other and by turns, on the same float32 arrays; first their answers are
compared: equal items but for scores that tie within rounding. CPU is that of the process with all its threads; times
are the best of the rounds, and of one query the median over people who were not asked before.

all users      top-10 of every user of Gowalla over all its items with what they have seen left out, factors of d = 64
               learnt there (made up of the same size where the data is not there). implicit with as many threads as
               there are cores, and with one BLAS thread or as many, whichever is faster.
item-item      the same users by the sums of their items' 100 nearest neighbours; implicit's nearest-neighbour model
               with the same similarities, on one thread, which is all that its `recommend` takes.
one query      20,000 items, d = 64, histories of 50 items: from a history to items and scores, which is what
               implicit's ``recommend(user, row, recalculate_user=True)`` does; and `Recommender.recommend`, which also
               looks the person up, gathers what they did, and keeps a record of the slate.

Memory beside inputs and outputs is the peak of the resident set during one ranking less what was there before.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from bench_recommend import N_ASKING, D, K, assert_same, made_artifact
from factors import mixture
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import ItemItemRecommender, NearestNeighboursScorer
from threadpoolctl import threadpool_limits

from headrace._native import Retriever
from headrace.events.log import EventLog
from headrace.events.store import Store
from headrace.recommend.batch import top_k_all
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace_training.datasets import read_pairs
from headrace_training.models.product import SparseProduct
from headrace_training.neighbours import shrunk_cosine
from headrace_training.ranking import rank_product

N_USERS, N_ITEMS, SEEN = 29_858, 40_981, 27
CORES = len(os.sched_getaffinity(0))
ROUNDS = 3
WANTED_ALL, WANTED_BYTES, WANTED_ONE = 4.0, 64 << 20, 0.25

Slates = tuple[np.ndarray, np.ndarray]


@dataclass
class Spent:
    """Seconds of one round."""

    cpu: float
    wall: float


def spent(run: Callable[[], Any]) -> Spent:
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return Spent(time.process_time() - cpu, time.perf_counter() - wall)


def best_of(runs: dict[str, Callable[[], Any]]) -> dict[str, Spent]:
    """The least CPU and wall of each contender, which take turns."""
    rounds = [{name: spent(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    return {name: Spent(min(r[name].cpu for r in rounds), min(r[name].wall for r in rounds)) for name in runs}


def peak_bytes(run: Callable[[], Any]) -> int:
    """How far one run lifts the resident set above what it is before."""

    def field(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    ctypes.CDLL(None).malloc_trim(0)  # else a run takes what another left
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = field("VmRSS")
    run()
    return field("VmHWM") - before


def gowalla(folder: Path) -> tuple[sp.csr_matrix, np.ndarray, np.ndarray]:
    """What users took, and factors of users and of items, float32."""
    if (folder / "train.txt.gz").exists():
        train = read_pairs(folder / "train.txt.gz").matrix()
        with threadpool_limits(1, "blas"):
            solver = AlternatingLeastSquares(factors=D, alpha=10.0, regularization=1.0, iterations=5, random_state=0)
            solver.fit(train, show_progress=False)
        return train, np.array(solver.user_factors), np.array(solver.item_factors)
    rng = np.random.default_rng(0)
    popularity = (np.arange(N_ITEMS) + 1.0) ** -0.8
    cells = (np.repeat(np.arange(N_USERS), SEEN), rng.choice(N_ITEMS, N_USERS * SEEN, p=popularity / popularity.sum()))
    train = sp.csr_matrix((np.ones(len(cells[0]), dtype=np.float32), cells), shape=(N_USERS, N_ITEMS))
    train.sum_duplicates()
    return train, mixture(N_USERS, D, seed=1), mixture(N_ITEMS, D, seed=0)


def table(title: str, rows: dict[str, Spent], scale: float, unit: str) -> None:
    print(f"\n{title:<44}{'CPU ' + unit:>10}{'wall ' + unit:>10}{'CPU / ours':>12}{'wall / ours':>13}")
    ours = next(iter(rows.values()))
    for name, each in rows.items():
        times = f"{each.cpu * scale:>10.2f}{each.wall * scale:>10.2f}"
        print(f"{name:<44}{times}{each.cpu / ours.cpu:>12.2f}{each.wall / ours.wall:>13.2f}")


def all_users(train: sp.csr_matrix, users: np.ndarray, items: np.ndarray) -> bool:
    """The first target: CPU and wall, with the memory."""
    model = AlternatingLeastSquares(factors=D, num_threads=CORES)
    model.user_factors, model.item_factors = users, items
    indptr, seen = train.indptr.astype(np.int64), train.indices.astype(np.int32)

    def ours(n_threads: int = CORES) -> Slates:
        return top_k_all(users, items, indptr, seen, K, n_threads=n_threads)

    def theirs(blas: int) -> Slates:
        with threadpool_limits(blas, "blas"):
            found: Slates = model.recommend(np.arange(len(users)), train, N=K, filter_already_liked_items=True)
        return found

    answer = ours()
    assert_same(theirs(1), answer)
    alone = ours(1)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(answer, alone, strict=True))
    rows = best_of(
        {"headrace": ours, **{f"implicit, {n} BLAS threads": lambda n=n: theirs(n) for n in sorted({1, CORES})}}
    )
    table(f"all users: {len(users)} x {len(items)}, d = {D}", rows, 1.0, "s")
    extra = peak_bytes(ours) - sum(array.nbytes for array in answer)
    first, *peers = rows.values()
    cpu, wall = min(p.cpu for p in peers) / first.cpu, min(p.wall for p in peers) / first.wall
    kept = min(cpu, wall) >= WANTED_ALL and extra <= WANTED_BYTES
    print(f"CPU {cpu:.1f} x, wall {wall:.1f} x, {extra / 2**20:.1f} MiB beside inputs and outputs: {answer_of(kept)}")
    return kept


def item_item(train: sp.csr_matrix) -> None:
    """No target: what evaluation of an item-item model takes."""
    similarity = shrunk_cosine(train, 100, 10.0)
    model = ItemItemRecommender(num_threads=1)
    model.similarity, model.scorer = similarity, NearestNeighboursScorer(similarity)
    asked = np.arange(0, train.shape[0], 4, dtype=np.int32)
    some, doubles = SparseProduct(train, similarity), train.astype(np.float64)[asked]

    def ours() -> np.ndarray | None:
        return rank_product(some, asked, K, train)

    def theirs() -> Slates:
        found: Slates = model.recommend(asked, doubles, N=K)
        return found

    found, wanted = ours(), theirs()[0]
    assert found is not None
    assert (found == wanted).mean() > 0.98  # theirs are sums of float64, and ties fall otherwise
    rows = best_of({"headrace": ours, "implicit, one thread": theirs})
    table(f"item-item: {len(asked)} users, {similarity.nnz} similarities", rows, 1.0, "s")


def one_query() -> bool:
    """The second target, by people in turn."""
    artifact = made_artifact()
    shape = (len(artifact.user_ids), len(artifact.item_ids))
    histories = sp.csr_matrix((artifact.history_weights, artifact.history_items, artifact.history_indptr), shape=shape)
    rows = [histories[user] for user in range(2 * N_ASKING)]
    model = AlternatingLeastSquares(
        factors=D, alpha=artifact.manifest.alpha, regularization=artifact.manifest.regularization, num_threads=1
    )
    model.item_factors, model.user_factors = np.array(artifact.item_factors), np.array(artifact.user_factors)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "log.sqlite")
        log = EventLog(store)
        recommender = Recommender(Model(artifact, log), log)
        recommender.warm()
        run = {
            "headrace, from a history": history_query(recommender.model, rows),
            "headrace, Recommender.recommend": lambda user: served(recommender, user),
            "implicit": lambda user: model.recommend(user, rows[user], N=K, recalculate_user=True),
        }
        times: dict[str, list[Spent]] = {name: [] for name in run}
        for user in range(2 * N_ASKING):
            answers: dict[str, Slates] = {}
            for name, ask in run.items():
                cpu, wall = time.process_time(), time.perf_counter()
                answers[name] = ask(user)
                times[name].append(Spent(time.process_time() - cpu, time.perf_counter() - wall))
            wanted = answers["implicit"]
            for found in answers.values():
                assert_same((found[0][None], found[1][None]), (wanted[0][None], wanted[1][None]))
        store.close()
    medians = {
        name: Spent(
            statistics.median(s.cpu for s in all_[N_ASKING:]), statistics.median(s.wall for s in all_[N_ASKING:])
        )
        for name, all_ in times.items()
    }
    table(f"one query: {shape[1]} items, d = {D}, first asked", medians, 1e6, "us")
    shares = [each.cpu / medians["implicit"].cpu for each in list(medians.values())[:2]]
    kept = shares[0] <= WANTED_ONE
    print(f"of implicit's CPU: {shares[0]:.2f} from a history: {answer_of(kept)}, {shares[1]:.2f} with all around it")
    return kept


def history_query(model: Model, rows: list[sp.csr_matrix]) -> Callable[[int], Slates]:
    """Fold-in and exact search for one person, whose items are left out."""
    artifact, retriever = model.artifact, model.retriever
    assert isinstance(retriever, Retriever)
    alpha, n_items = np.float32(artifact.manifest.alpha), len(artifact.item_ids)
    one, none, empty = np.ones(1, np.int8), np.zeros(2, np.int64), np.empty(0, np.int32)
    limits, allowed = np.full(1, K, np.int32), np.zeros(n_items, np.uint32)
    nothing = (none, empty, empty.astype(np.float32), none[:0], none[:1])

    def ask(user: int) -> Slates:
        row = rows[user]
        indptr, items = np.array([0, len(row.indices)]), row.indices
        vectors = model.fold_in(indptr, items, alpha * row.data)
        found, scores = np.empty((1, K), np.int32), np.empty((1, K), np.float32)
        counts = np.empty(1, np.int32)
        retriever.retrieve(
            vectors, one, limits, one, *nothing, indptr, items, None, None, allowed, found, scores, counts, counts,
            nothing[2], none[:0], 0,
        )  # fmt: skip
        return found[0], scores[0]

    return ask


def served(recommender: Recommender, user: int) -> Slates:
    (answer,) = recommender.recommend([Query(f"u{user}", limit=K)])
    assert isinstance(answer, Answer)
    return np.array(answer.rows), np.array(answer.scores)


def answer_of(kept: bool) -> str:
    return "yes" if kept else "NO"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=root / "gowalla-lightgcn", help="folder of Gowalla's train.txt.gz")
    folder = parser.parse_args().data
    names = ("headrace", "implicit", "numpy", "scipy")
    print(f"{platform.machine()}, {CORES} cores; " + ", ".join(f"{name} {version(name)}" for name in names))
    with threadpool_limits(1, "blas"):
        kept = one_query()
    train, users, items = gowalla(folder)
    kept = all_users(train, users, items) and kept
    item_item(train)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
