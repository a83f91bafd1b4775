"""Accuracy on Gowalla: `headrace-train evaluate` with its defaults beside the `implicit` library with its own.

Both are measured in one run by the same code: full ranking, train items masked, the split of LightGCN. Run as
``python benchmarks/bench_evaluate.py``; the data is looked for in HEADRACE_DATA or ../shared/data.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from headrace_training.datasets import read_pairs
from headrace_training.evaluate import build_test_set, measure
from headrace_training.models import PopularityModel
from headrace_training.slate import FactorModel

K = 20
WANTED_RECALL, WANTED_NDCG = 0.190, 0.157
WANTED_SECONDS = 300.0
WANTED_BYTES = 6_000_000_000


def data_folder() -> Path:
    """The Gowalla folder; SystemExit with one line when it is not there."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = root / "gowalla-lightgcn"
    if not folder.is_dir():
        raise SystemExit(f"skipped: no Gowalla data in {root}; set HEADRACE_DATA")
    return folder


def headrace_row(folder: Path, model: str) -> dict[str, float | str]:
    """The whole command in a process of its own, as a user runs it."""
    command = [sys.executable, "-c", "from headrace_training.cli import main; main()", "evaluate", "--json"]
    command += ["--model", model]
    command += ["--train", str(folder / "train.txt.gz"), "--test", str(folder / "test.txt.gz")]
    start = time.perf_counter()
    run = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - start
    report = json.loads(run.stdout)
    return {
        "name": f"headrace, {model} ({report['model']})" if model == "auto" else f"headrace, {model}",
        "recall": report[f"recall@{K}"],
        "ndcg": report[f"ndcg@{K}"],
        "fit": report["fit_seconds"],
        "whole": seconds,
        "bytes": report["peak_rss_bytes"],
    }


def implicit_row(
    train: sp.csr_matrix, folder: Path, user_ids: list[str], item_ids: list[str]
) -> dict[str, float | str]:
    """The library's own model with the library's own defaults, ranked and measured by our code."""
    begin = time.perf_counter()
    with threadpool_limits(limits=1, user_api="blas"):
        solver = AlternatingLeastSquares(random_state=0)
        solver.fit(train, show_progress=False)
    fit_seconds = time.perf_counter() - begin
    index = [{name: idx for idx, name in enumerate(ids)} for ids in (user_ids, item_ids)]
    test = build_test_set(train, *index, read_pairs(folder / "test.txt.gz"))
    model = FactorModel(np.asarray(solver.user_factors), np.asarray(solver.item_factors))
    fallback = PopularityModel()
    fallback.fit(train)
    recall, ndcg = measure(model, fallback, train, test, K).means
    whole = time.perf_counter() - begin
    return {
        "name": "implicit, defaults",
        "recall": recall,
        "ndcg": ndcg,
        "fit": fit_seconds,
        "whole": whole,
        "bytes": 0,
    }


def main() -> None:
    """Print the table; exit code 1 when a promise is not kept."""
    folder = data_folder()
    ours = headrace_row(folder, "auto")
    singles = [headrace_row(folder, model) for model in ("linear", "graph", "ials")]
    pairs = read_pairs(folder / "train.txt.gz")
    theirs = implicit_row(pairs.matrix(), folder, pairs.user_ids, pairs.item_ids)
    versions = ", ".join(f"{name} {version(name)}" for name in ("headrace", "implicit", "numpy", "scipy"))
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    print(f"{'':34}{'recall@20':>10}{'ndcg@20':>9}{'fit s':>8}{'whole s':>9}{'peak GB':>9}")
    for row in (ours, *singles, theirs):
        memory = f"{float(row['bytes']) / 1e9:.2f}" if row["bytes"] else "-"
        print(
            f"{row['name']:<34}{row['recall']:>10.4f}{row['ndcg']:>9.4f}{row['fit']:>8.1f}{row['whole']:>9.1f}{memory:>9}"
        )
    kept = (
        float(ours["recall"]) >= WANTED_RECALL
        and float(ours["ndcg"]) >= WANTED_NDCG
        and float(ours["whole"]) < WANTED_SECONDS
        and float(ours["bytes"]) < WANTED_BYTES
    )
    limits = f"recall@{K} >= {WANTED_RECALL}, ndcg@{K} >= {WANTED_NDCG}, under {WANTED_SECONDS:.0f} s and 6 GB"
    print(f"{limits}: {'yes' if kept else 'NO'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
