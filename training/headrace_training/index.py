"""Which search index serves the item factors: exact for small catalogues, else what proves good enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headrace.types import Float32
from headrace_training.progress import say

EXACT_BELOW = 250_000
"""Items up to which the exact scan serves a busy server's batches for less than HNSW takes one by one."""
WANTED_RECALL = 0.98
N_QUERIES = 256
K = 20
HNSW_LINKS = 32
HNSW_CONSTRUCTION = 120
"""Candidates while building: at 40 some items stay out of reach, whatever the effort of a search."""
HNSW_SEARCHES = (32, 64, 128, 256, 512)
IVF_PROBES = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class IndexChoice:
    """The chosen index, None when exact, with its recall@20 against exact search and one query's time in ms."""

    kind: Literal["exact", "hnsw", "ivf"]
    index: Any
    recall: float
    query_ms: float


def choose_index(items: Float32, queries: Float32, *, exact_below: int = EXACT_BELOW) -> IndexChoice:
    """The fastest of HNSW and IVF whose recall@20 is at least .98 on a sample of queries, else exact.

    items : (n_items, d) float32.   queries : (n, d) float32, people's factors; at most 256 are used.
    """
    import faiss  # most of a second, which small catalogues need not wait for

    if len(items) < exact_below or not len(queries):
        return IndexChoice("exact", None, 1.0, 0.0)
    items = np.ascontiguousarray(items)
    queries = np.ascontiguousarray(queries[np.linspace(0, len(queries) - 1, min(N_QUERIES, len(queries))).astype(int)])
    exact = faiss.IndexFlatIP(items.shape[1])
    exact.add(items)
    _, truth = exact.search(queries, K)
    choices = [_tune(faiss, kind, items, queries, truth) for kind in ("hnsw", "ivf")]
    for choice in choices:
        say(f"  {choice.kind}: recall@{K} {choice.recall:.4f}, {choice.query_ms:.3f} ms a query")
    good = [choice for choice in choices if choice.recall >= WANTED_RECALL]
    if not good:
        say(f"  neither reaches {WANTED_RECALL}; search stays exact")
        return IndexChoice("exact", None, 1.0, 0.0)
    return min(good, key=lambda choice: choice.query_ms)


def _tune(faiss: Any, kind: Literal["hnsw", "ivf"], items: Float32, queries: Float32, truth: Any) -> IndexChoice:
    """The kind's index at the smallest effort that reaches the recall, or at the greatest."""
    d = items.shape[1]
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(d, HNSW_LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = HNSW_CONSTRUCTION
        efforts: tuple[int, ...] = HNSW_SEARCHES
    else:
        n_lists = int(4 * np.sqrt(len(items)))
        quantizer = faiss.IndexFlatIP(d)
        index = faiss.IndexIVFFlat(quantizer, d, n_lists, faiss.METRIC_INNER_PRODUCT)
        quantizer.this.disown()  # the index frees it
        index.own_fields = True
        index.train(items)
        efforts = IVF_PROBES
    index.add(items)
    recall = query_ms = 0.0
    for effort in efforts:
        if kind == "hnsw":
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        start = time.perf_counter()
        found = np.concatenate([index.search(query[None], K)[1] for query in queries])
        query_ms = (time.perf_counter() - start) * 1000 / len(queries)
        recall = float(np.mean([len(np.intersect1d(a, b)) / K for a, b in zip(found, truth, strict=True)]))
        if recall >= WANTED_RECALL:
            break
    return IndexChoice(kind, index, recall, query_ms)
