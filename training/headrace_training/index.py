"""Which search index serves the item factors: exact while that is fastest, else lists, by measured recall."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace._native import Retriever
from headrace.recommend.index import Lists, make_searcher, search
from headrace.types import Float32, Int32
from headrace_training.clusters import k_means, nearest
from headrace_training.progress import say

EXACT_BELOW = 250_000
"""Items up to which the exact scan serves a busy server's batches for less than lists take one by one."""
WANTED_RECALL = 0.98
N_QUERIES = 256
K = 20
STEP = 1.1
"""Between the numbers of probes that are tried."""


@dataclass(frozen=True)
class IndexChoice:
    """The chosen index, ``lists`` None when exact.

    recall : of its best k against exact search, over a sample of queries. query_ms : CPU of one query. build_seconds :
    wall time of making and choosing it. peak_rss_bytes : the most memory that the process held up to then.
    """

    kind: Literal["exact", "lists"]
    lists: Lists | None
    recall: float
    query_ms: float
    build_seconds: float
    peak_rss_bytes: int

    def parameters(self) -> dict[str, int | float]:
        """What an artifact's manifest says of it."""
        return {
            "index_lists": len(self.lists.centres) if self.lists else 0,
            "index_query_ms": self.query_ms,
            "index_build_seconds": self.build_seconds,
            "index_peak_rss_bytes": self.peak_rss_bytes,
        }


def choose_index(
    items: Float32,
    queries: Float32,
    *,
    exact_below: int = EXACT_BELOW,
    recall: float = WANTED_RECALL,
    k: int = K,
    by_factors: bool = True,
    seed: int = 0,
    n_threads: int = 1,
) -> IndexChoice:
    """Lists at the least probes whose recall of the best k reaches what is wanted on a sample of queries, else exact.

    Exact, too, for few items, or where lists would not be faster.

    items : (n_items, d) float32.   queries : (n, d) float32, people's factors; at most 256 are used.
    by_factors : whether the float32 factors, which serving maps, score at the end.
    """
    started = time.perf_counter()

    def choice(kind: Literal["exact", "lists"], lists: Lists | None, found: float, query_ms: float) -> IndexChoice:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return IndexChoice(kind, lists, found, query_ms, time.perf_counter() - started, peak)

    if len(items) < exact_below or not len(queries):
        return choice("exact", None, 1.0, 0.0)
    items = np.ascontiguousarray(items)
    queries = np.ascontiguousarray(queries[np.linspace(0, len(queries) - 1, min(N_QUERIES, len(queries))).astype(int)])
    truth, exact_ms = _truth(items, queries, k)
    centres = k_means(items, list_count(len(items)), seed=seed, n_threads=n_threads)
    members = nearest(items, centres, n_threads=n_threads)
    searcher = make_searcher(items, Lists(centres, members, 1, by_factors))
    probes, reached = _least_probes(searcher, queries, truth, recall, len(centres))
    query_ms = _query_ms(searcher, queries, k, probes)
    say(
        f"  {len(centres)} lists, {probes} probed: recall@{k} {reached:.4f}, {query_ms:.3f} ms; exact {exact_ms:.3f} ms"
    )
    if reached < recall or query_ms >= exact_ms:
        say("  search stays exact")
        return choice("exact", None, 1.0, exact_ms)
    return choice("lists", Lists(centres, members, probes, by_factors), reached, query_ms)


def list_count(n_items: int) -> int:
    """Twice the root of the items: a search then looks at about as many centres as items."""
    return max(1, int(2 * np.sqrt(n_items)))


def recall_of(found: Int32, truth: Int32) -> float:
    """Share of the true best that were found, both (n, k)."""
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, truth, strict=True)]))


def _truth(items: Float32, queries: Float32, k: int) -> tuple[Int32, float]:
    """The best of each query, and the CPU of one exact search in ms."""
    searcher = make_searcher(items)
    return search(searcher, queries, k).rows, _query_ms(searcher, queries[:16], k)


def _least_probes(
    searcher: Retriever, queries: Float32, truth: Int32, wanted: float, n_lists: int
) -> tuple[int, float]:
    """The least probes, in steps, that reach the wanted recall, and that; or all lists, and what those reach."""
    ladder = sorted({min(n_lists, round(STEP**i)) for i in range(int(np.log(n_lists) / np.log(STEP)) + 2)})
    recalls: dict[int, float] = {}
    low, high = 0, len(ladder) - 1
    while low < high:
        middle = (low + high) // 2
        found = search(searcher, queries, truth.shape[1], probes=ladder[middle])
        recalls[ladder[middle]] = recall_of(found.rows, truth)
        low, high = (low, middle) if recalls[ladder[middle]] >= wanted else (middle + 1, high)
    probes = ladder[low]
    if probes not in recalls:
        recalls[probes] = recall_of(search(searcher, queries, truth.shape[1], probes=probes).rows, truth)
    return probes, recalls[probes]


def _query_ms(searcher: Retriever, queries: Float32, k: int, probes: int = 0) -> float:
    started = time.process_time()
    for i in range(len(queries)):
        search(searcher, queries[i : i + 1], k, probes=probes)
    return (time.process_time() - started) * 1000 / len(queries)
