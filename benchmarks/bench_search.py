"""Top-10 of all items from 10,000 to 10 million of them: latency, bytes an item and recall, with Faiss beside.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_search.py --most 1000000

Factors of 64 columns from the mixture of benchmarks/factors.py, queries from the same mixture. One query at a time on
one thread; times are CPU of the process, the median over rounds in which all contenders take turns. Recall@10 is
against a product in float64. Faiss's lists have our centres and members, so that they differ in the search alone, and
as many probes as reach the same recall. Bytes are what an index holds itself: "lists" score by their codes and read no
float32 factors, "lists, factors" score their best by factors, which are mapped beside.

At a million items filters by bitmap follow, and a base with additions and removals. 10 million items take 6 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
from factors import queries_and_items

from headrace.recommend.index import LiveIndex, bitmap, make_searcher, search
from headrace_training.index import IndexChoice, choose_index, recall_of

D, K, N_CHOOSING, N_QUERIES, ROUNDS = 64, 10, 256, 200, 5
SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
LISTS_FROM, FLAT_UP_TO, HNSW_UP_TO, FILTERS_AT = 100_000, 1_000_000, 100_000, 1_000_000
WANTED, BY_CODES, MOST = 0.994, 0.97, 0.96
"""Recall that approximate search is chosen for: by factors, by codes alone, and those at 10 million. A little more than
is promised, since it is chosen on other people than it is measured on."""
TIE = 1e-5
"""Scores nearer than this, as a share of the best, may change places by rounding."""

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
Found = Callable[[Float32], Any]
"""Queries to rows, (n, K)."""


@dataclass
class Row:
    """One line of the table; microseconds of CPU a query, bytes an item."""

    items: int
    contender: str
    recall: float
    us: float
    bytes_an_item: float
    note: str = ""


def main() -> None:
    """Run all sizes up to ``--most``, print a table and write the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="items of the largest size")
    parser.add_argument("--least", type=int, default=SIZES[0], help="items of the smallest size")
    parser.add_argument("--plot", type=Path, default=Path("build/search.svg"), help="where the plot goes")
    parser.add_argument("--json", action="store_true", help="print the rows as one JSON object")
    args = parser.parse_args()
    faiss.omp_set_num_threads(1)
    rows: list[Row] = []
    for n in SIZES:
        if args.least <= n <= args.most:
            rows += run_size(n)
    if args.json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
    else:
        print_table(rows)
    draw(rows, args.plot)


def run_size(n: int) -> list[Row]:
    """All contenders over n items."""
    queries, items = queries_and_items(n, N_CHOOSING + N_QUERIES)
    choosing, queries = queries[:N_CHOOSING], queries[N_CHOOSING:]
    truth = exact_rows(queries, items)
    found: dict[str, tuple[Found, float, str]] = {}
    exact = make_searcher(items)
    found["headrace exact"] = (lambda q: search(exact, q, K).rows, exact.n_bytes / n, "")
    note = check_ids(found["headrace exact"][0](queries), truth, queries, items)
    found["headrace exact"] = (*found["headrace exact"][:2], note)
    kinds = (False, True) if n <= FLAT_UP_TO else (False,)
    choices = [choose(items, choosing, by_factors) for by_factors in kinds] if n >= LISTS_FROM else []
    for choice in choices:
        if choice.lists is None:
            continue
        name = "headrace lists, factors" if choice.lists.by_factors else "headrace lists"
        note = (
            f"{len(choice.lists.centres)} lists, {choice.lists.probes} probed; built in {choice.build_seconds:.0f} s, "
            f"peak {choice.peak_rss_bytes / 2**30:.1f} GiB"
        )
        lists = make_searcher(items, choice.lists)
        found[name] = (lambda q, lists=lists: search(lists, q, K).rows, lists.n_bytes / n, note)
    for name, made in faiss_contenders(items, choices[0] if choices else None, choosing, n):
        found[name] = made
    rows = measured(n, found, queries, truth)
    if n == FILTERS_AT:
        rows += filter_rows(items, queries, choices) + change_rows(items, queries)
    return rows


def choose(items: Float32, queries: Float32, by_factors: bool) -> IndexChoice:
    """The index that training would choose for top-10, at any size."""
    return choose_index(
        items,
        queries,
        exact_below=0,
        recall=wanted_recall(len(items), by_factors),
        k=K,
        by_factors=by_factors,
        n_threads=len(os.sched_getaffinity(0)),
    )


def wanted_recall(n: int, by_factors: bool) -> float:
    """What lists are chosen for."""
    return WANTED if by_factors else BY_CODES if n <= FLAT_UP_TO else MOST


def exact_rows(queries: Float32, items: Float32, mask: npt.NDArray[np.bool_] | None = None, k: int = K) -> Int64:
    """The best rows by products in float64, ties by the lower row."""
    wide, best, scores = queries.astype(np.float64), np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
    for first in range(0, len(items), 50_000):
        part = wide @ items[first : first + 50_000].T.astype(np.float64)
        if mask is not None:
            part[:, ~mask[first : first + 50_000]] = -np.inf
        top = np.argpartition(-part, min(k, part.shape[1] - 1), axis=1)[:, :k]
        best = np.concatenate([best, top + first], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(part, top, axis=1)], axis=1)
        order = np.lexsort((best, -scores), axis=1)[:, :k]
        best, scores = np.take_along_axis(best, order, axis=1), np.take_along_axis(scores, order, axis=1)
    return best


def check_ids(rows: Any, truth: Int64, queries: Float32, items: Float32) -> str:
    """Assert that rows are the true ones in the true order, but where scores tie within float32's rounding."""
    differ = rows != truth
    for q, i in zip(*np.nonzero(differ), strict=True):
        a, b = (float(items[row].astype(np.float64) @ queries[q]) for row in (rows[q, i], truth[q, i]))
        assert abs(a - b) <= TIE * abs(a), f"query {q}, place {i}: {a} is not {b}"
    return f"ids equal in {(~differ).mean():.2%} of places, the others tie in float32" if differ.any() else "ids equal"


def faiss_contenders(
    items: Float32, choice: IndexChoice | None, choosing: Float32, n: int
) -> Iterator[tuple[str, tuple[Found, float, str]]]:
    """Faiss's indexes that are sane at this size."""
    inner = faiss.METRIC_INNER_PRODUCT

    def flat(name: str, index: Any) -> tuple[str, tuple[Found, float, str]]:
        index.train(items[:: max(1, n // 100_000)])
        index.add(items)
        return name, (lambda q: index.search(q, K)[1], saved_bytes(index) / n, "")

    if n <= FLAT_UP_TO:
        yield flat("Faiss FlatIP", faiss.IndexFlatIP(D))
    yield flat("Faiss SQ8", faiss.IndexScalarQuantizer(D, faiss.ScalarQuantizer.QT_8bit, inner))
    if n <= HNSW_UP_TO:
        hnsw = faiss.IndexHNSWFlat(D, 32, inner)
        hnsw.hnsw.efConstruction, hnsw.hnsw.efSearch = 120, 128
        yield flat("Faiss HNSW32", hnsw)
    if choice is None or choice.lists is None:
        return
    truth = search(make_searcher(items), choosing, K).rows
    n_lists = len(choice.lists.centres)
    for kind in ("IVF SQ8", "IVF Flat"):
        if kind == "IVF Flat" and n > FLAT_UP_TO:
            continue
        quantizer = faiss.IndexFlatIP(D)
        quantizer.add(choice.lists.centres)
        if kind == "IVF SQ8":
            index = faiss.IndexIVFScalarQuantizer(quantizer, D, n_lists, faiss.ScalarQuantizer.QT_8bit, inner)
        else:
            index = faiss.IndexIVFFlat(quantizer, D, n_lists, inner)
        index.train(items[:: max(1, n // 100_000)])
        add_members(index, items, choice.lists.lists)
        note = tune_probes(index, choosing, truth, wanted_recall(n, kind == "IVF Flat"))
        # bound as defaults: the loop goes on
        yield (
            f"Faiss {kind}",
            (
                lambda q, index=index, quantizer=quantizer: index.search(q, K)[1],
                saved_bytes(index) / n,
                note,
            ),
        )


def add_members(index: Any, items: Float32, lists: npt.NDArray[np.int32]) -> None:
    """Add items to the lists that they belong to already."""
    for first in range(0, len(items), 500_000):
        some = np.ascontiguousarray(items[first : first + 500_000])
        members = lists[first : first + 500_000].astype(np.int64)
        ids = np.arange(first, first + len(some), dtype=np.int64)
        index.add_core(len(some), faiss.swig_ptr(some), faiss.swig_ptr(ids), faiss.swig_ptr(members))


def tune_probes(index: Any, queries: Float32, truth: Any, wanted: float) -> str:
    """Set the least probes, in steps of a tenth, that reach the recall."""
    probes = 1.0
    while True:
        index.nprobe = round(probes)
        if recall_of(index.search(queries, K)[1], truth) >= wanted or index.nprobe >= index.nlist:
            return f"{index.nprobe} probed"
        probes = max(probes * 1.1, probes + 1)


def saved_bytes(index: Any) -> int:
    """Bytes that an index writes, which is what it holds."""
    writer = faiss.VectorIOWriter()
    faiss.write_index(index, writer)
    return int(writer.data.size())


def measured(n: int, found: dict[str, tuple[Found, float, str]], queries: Float32, truth: Int64) -> list[Row]:
    """Every contender's recall and time, in rounds that they take turns in."""
    times: dict[str, list[float]] = {name: [] for name in found}
    answers: dict[str, list[Any]] = {name: [] for name in found}
    per_round = len(queries) // ROUNDS
    for part in range(ROUNDS):
        asked = queries[part * per_round : (part + 1) * per_round]
        for name, (call, _, _) in found.items():
            started = time.process_time()
            got = [call(asked[i : i + 1]) for i in range(len(asked))]
            times[name].append((time.process_time() - started) * 1e6 / len(asked))
            answers[name] += got
    return [
        Row(n, name, recall_of(np.concatenate(answers[name]), truth), float(np.median(times[name])), size, note)
        for name, (_, size, note) in found.items()
    ]


def filter_rows(items: Float32, queries: Float32, choices: list[IndexChoice]) -> list[Row]:
    """Bitmaps that let a share of the items by; each beside the unfiltered search in the same rounds."""
    rng, rows = np.random.default_rng(1), []
    kinds = {"exact": make_searcher(items)}
    if choices[1].lists is not None:
        kinds["lists, factors"] = make_searcher(items, choices[1].lists)
    for share in (0.001, 0.01, 0.1, 0.5):
        mask = rng.random(len(items)) < share
        words, truth = bitmap(mask), exact_rows(queries, items, mask)
        for name, searcher in kinds.items():
            found: dict[str, tuple[Found, float, str]] = {
                "plain": (lambda q, s=searcher: search(s, q, K).rows, 0.0, ""),
                "filtered": (lambda q, s=searcher, w=words: search(s, q, K, w).rows, 0.0, ""),
            }
            plain, filtered = measured(len(items), found, queries, truth)
            assert (search(searcher, queries, K, words).rows >= 0).all(), "fewer than wanted"
            note = f"{filtered.us / plain.us:.2f} x unfiltered, always {K}"
            label = f"headrace {name}, filter {share:.1%}"
            rows.append(Row(len(items), label, filtered.recall, filtered.us, searcher.n_bytes / len(items), note))
    return rows


def change_rows(items: Float32, queries: Float32) -> list[Row]:
    """A base of 99 % of the items, the rest added in ten calls, and 10,000 removed."""
    base = int(0.99 * len(items))
    index = LiveIndex(make_searcher(items[:base]), D)
    started = time.perf_counter()
    for rows in np.array_split(np.arange(base, len(items), dtype=np.int32), 10):
        index.add(rows, items[rows])
    seconds = time.perf_counter() - started
    removed = np.random.default_rng(2).choice(len(items), 10_000, replace=False).astype(np.int32)
    index.remove(removed)
    mask = np.ones(len(items), dtype=bool)
    mask[removed] = False
    truth = exact_rows(queries, items, mask)
    note = check_ids(index.search(queries, K).rows, truth, queries, items)
    note += f"; {len(items) - base:,} items added in {seconds * 1000:.0f} ms"
    found: dict[str, tuple[Found, float, str]] = {
        "headrace exact, 1 % added, 10,000 removed": (
            lambda q: index.search(q, K).rows,
            index.searcher.n_bytes / len(items),
            note,
        )
    }
    return measured(len(items), found, queries, truth)


def print_table(rows: list[Row]) -> None:
    """As markdown."""
    print(f"\n{platform.processor() or platform.machine()}; faiss {version('faiss-cpu')}, numpy {version('numpy')}\n")
    print("| items | contender | recall@10 | CPU a query | bytes an item | |\n|---|---|---|---|---|---|")
    for row in rows:
        spent = f"{row.us / 1000:.2f} ms" if row.us >= 1000 else f"{row.us:.0f} us"
        print(
            f"| {row.items:,} | {row.contender} | {row.recall:.4f} | {spent} | {row.bytes_an_item:.0f} | {row.note} |"
        )


def draw(rows: list[Row], path: Path) -> None:
    """Latency and bytes against the number of items, a line a contender."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 5))
    for name in dict.fromkeys(row.contender for row in rows if "%" not in row.contender):
        mine = [row for row in rows if row.contender == name]
        style = {"marker": "o", "linewidth": 2.5 if name.startswith("headrace") else 1.2, "label": name}
        axes[0].loglog([row.items for row in mine], [row.us / 1000 for row in mine], **style)
        axes[1].semilogx([row.items for row in mine], [row.bytes_an_item for row in mine], **style)
    axes[0].set(title="One query, one thread", xlabel="items", ylabel="CPU, ms")
    axes[1].set(title="What the index holds", xlabel="items", ylabel="bytes an item", ylim=(0, None))
    axes[1].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
