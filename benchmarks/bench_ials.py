"""iALS on Gowalla: Headrace's compiled solver beside `implicit` and `irspack`, the same loss and the same threads.

Each solver runs in a process of its own, with one BLAS thread, on the same weights: a part of the training file (the
test file is never opened), weighed as the `ials` model weighs them. The losses are computed by one function from the
factors that each solver gives; the memory is what the first epoch, with all preparation, adds at its peak. Run as
``python benchmarks/bench_ials.py [--epochs 8] [--factors 64 128 256]``; the data is looked for in HEADRACE_DATA or
../shared/data; irspack comes with ``pip install 'headrace[bench]'`` and is left out without.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from headrace_training.als import Als, AlsSettings
from headrace_training.datasets import read_pairs
from headrace_training.models.base import degree_power, degrees
from headrace_training.ranking import accuracy, mask, top_k
from headrace_training.split import hold_out

K = 20
THREADS = 2
ALPHA, RIDGE = 300.0, 30.0
EXPONENTS = (0.25, 0.4)
WANTED = 2.0
EXACT = ("implicit Cholesky", "irspack iALS++")
"""Slow ones, for reference: they get two epochs."""
Factors = tuple[np.ndarray, np.ndarray]
Epochs = Iterator[Callable[[], Factors]]
Solver = Callable[[sp.csr_matrix, int, float], Epochs]


def headrace(confidences: sp.csr_matrix, d: int, ridge: float) -> Epochs:
    als = Als(confidences, AlsSettings(n_factors=d, alpha=1.0, regularization=ridge, n_threads=THREADS))
    while True:
        als.epoch()
        yield lambda: (als.user_factors, als.item_factors)


def implicit(confidences: sp.csr_matrix, d: int, ridge: float, *, use_cg: bool = True) -> Epochs:
    from implicit.cpu.als import AlternatingLeastSquares

    solver = AlternatingLeastSquares(
        factors=d,
        alpha=1.0,
        regularization=ridge,
        iterations=1,
        num_threads=THREADS,
        random_state=0,
        use_cg=use_cg,
    )
    solver.user_factors, solver.item_factors = (
        np.random.default_rng(0).random((n, d), dtype=np.float32) * 0.01 for n in confidences.shape
    )
    transposed = confidences.T.tocsr()
    while True:  # what `fit` does in an iteration, without its making of the transposed matrix
        for rows, free, fixed in (
            (confidences, solver.user_factors, solver.item_factors),
            (transposed, solver.item_factors, solver.user_factors),
        ):
            solver.solver(rows, free, fixed, ridge, num_threads=THREADS)
        yield lambda: (solver.user_factors, solver.item_factors)


def implicit_cholesky(confidences: sp.csr_matrix, d: int, ridge: float) -> Epochs:
    return implicit(confidences, d, ridge, use_cg=False)


def irspack(confidences: sp.csr_matrix, d: int, ridge: float, *, solver: str = "CG") -> Epochs:
    """Its "original" loss: an observed pair weighs alpha0 more than its entry, so entries are lessened by 1."""
    from irspack.recommenders.ials import IALSTrainer, str_to_loss_type, str_to_solver_type

    less = confidences.copy()
    less.data -= 1
    trainer = IALSTrainer(
        less,
        n_components=d,
        alpha0=1.0,
        reg=ridge,
        nu=0.0,
        init_std=0.1,
        solver_type=str_to_solver_type(solver),
        max_cg_steps=3,
        ialspp_subspace_dimension=64,
        loss_type=str_to_loss_type("ORIGINAL"),
        random_seed=0,
        n_threads=THREADS,
        prediction_time_max_cg_steps=5,
        prediction_time_ialspp_iteration=7,
    )
    while True:
        trainer.run_epoch()
        yield lambda: (trainer.core_trainer.user, trainer.core_trainer.item)


def irspack_blocks(confidences: sp.csr_matrix, d: int, ridge: float) -> Epochs:
    return irspack(confidences, d, ridge, solver="IALSPP")


SOLVERS: dict[str, Solver] = {
    "headrace": headrace,
    "implicit CG": implicit,
    "implicit Cholesky": implicit_cholesky,
    "irspack CG": irspack,
    "irspack iALS++": irspack_blocks,
}


def loss(confidences: sp.csr_matrix, users: np.ndarray, items: np.ndarray, ridge: float) -> float:
    """Σ c (1 - x·y)² over what was observed, Σ (x·y)² over the rest, and the regularisation; summed in float64."""
    users, items = users.astype(np.float64), items.astype(np.float64)
    everything = np.vdot(users.T @ users, items.T @ items)
    observed = 0.0
    for first in range(0, len(users), 1000):
        rows = confidences[first : first + 1000].tocoo()
        scores = np.einsum("ij,ij->i", users[first + rows.row], items[rows.col])
        observed += float((rows.data * (1 - scores) ** 2 - scores**2).sum())
    return float(everything + observed + ridge * ((users**2).sum() + (items**2).sum()))


def weights() -> tuple[sp.csr_matrix, sp.csr_matrix, sp.csr_matrix]:
    """Weighed training part as confidences, the same unweighed, and what was held out of the training file."""
    root = Path(os.environ.get("HEADRACE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root / "gowalla-lightgcn" / "train.txt.gz"
    if not path.is_file():
        raise SystemExit(f"skipped: no Gowalla data in {root}; set HEADRACE_DATA")
    train, held = hold_out(read_pairs(path).matrix(), seed=0)
    users, items = degrees(train)
    scaled = degree_power(users, EXPONENTS[0]) @ train @ degree_power(items, EXPONENTS[1])
    return (ALPHA * scaled).tocsr().astype(np.float32), train, held


def ranking(factors: Factors, train: sp.csr_matrix, held: sp.csr_matrix) -> tuple[float, float]:
    """Mean recall@20 and ndcg@20 of the held-out pairs, over all users who have some."""
    users = np.flatnonzero(np.diff(held.indptr))
    parts = []
    for first in range(0, len(users), 500):
        block = users[first : first + 500]
        scores = np.asarray(factors[0][block] @ factors[1].T, dtype=np.float32)
        found = accuracy(top_k(mask(scores, train[block]), K), held[block], np.diff(held[block].indptr))
        parts.append(np.stack([found.recall, found.ndcg]))
    recall, ndcg = np.concatenate(parts, axis=1).mean(axis=1)
    return float(recall), float(ndcg)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes(name: str) -> int:
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(name))


def measure(name: str, d: int, epochs: int) -> dict[str, object]:
    """One solver in this process: seconds of each epoch, the losses after them, and what the last factors find."""
    with threadpool_limits(limits=1, user_api="blas"):
        confidences, train, held = weights()
        ctypes.CDLL(None).malloc_trim(0)  # what reading the file has freed
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        before, losses, cpu, wall = resident_bytes("VmRSS"), [], [], []
        solver = SOLVERS[name](confidences, d, RIDGE)
        peak = 0
        for _ in range(epochs):
            start = cpu_seconds(), time.perf_counter()
            given = next(solver)
            cpu.append(cpu_seconds() - start[0])
            wall.append(time.perf_counter() - start[1])
            peak = peak or resident_bytes("VmHWM")  # before the losses take memory of their own
            factors = given()
            losses.append(loss(confidences, *factors, RIDGE))
        recall, ndcg = ranking(factors, train, held)
    return {"cpu": cpu, "wall": wall, "losses": losses, "recall": recall, "ndcg": ndcg, "bytes": peak - before}


def check_agreement(names: list[str]) -> None:
    """All minimise the same thing: on a small problem they end at the same loss. SystemExit when they do not."""
    rng = np.random.default_rng(0)
    dense = np.where(rng.random((120, 60)) < 0.2, rng.uniform(2.0, 30.0, (120, 60)), 0.0)
    small = sp.csr_matrix(dense.astype(np.float32))
    ends = {}
    for name in names:
        solver = SOLVERS[name](small, 4, 5.0)
        for _ in range(300):
            given = next(solver)
        ends[name] = loss(small, *given(), 5.0)
    if max(ends.values()) > 1.01 * min(ends.values()):
        raise SystemExit(f"the solvers do not agree on the loss: {ends}")
    print(f"{len(ends)} solvers end at the same loss of a small problem, within {spread(ends):.2%}")


def spread(ends: dict[str, float]) -> float:
    return max(ends.values()) / min(ends.values()) - 1


def until(row: dict[str, object], target: float, clock: str) -> float:
    """Seconds until the loss is at most the target; infinity when it never is."""
    for number, value in enumerate(row["losses"], start=1):
        if value <= target:
            return float(sum(row[clock][:number]))
    return float("inf")


def compare(d: int, names: list[str], epochs: int) -> tuple[float, bool]:
    """Print a table; how many times faster an epoch of ours is than the faster peer's, by CPU time, and is it as good?

    As good: a loss at most a thousandth above the peers' lowest, an ndcg at most a hundredth below their best.
    """
    rows = {}
    for name in names:
        some = 2 if name in EXACT else epochs
        command = [sys.executable, __file__, "--one", name, "--factors", str(d), "--epochs", str(some)]
        rows[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    target = rows["implicit CG"]["losses"][-1] * (1 + 1e-4)
    print(f"\nd = {d}: {epochs} epochs, those for reference 2; the target is the loss that implicit CG ends with")
    print(
        f"{'':18}{'epochs':>7}{'CPU s/epoch':>12}{'wall s/epoch':>13}{'loss after 2':>14}{'after all':>11}"
        f"{'CPU s to target':>16}{'recall@20':>10}{'ndcg@20':>9}{'MB':>6}"
    )
    for name, row in rows.items():
        print(
            f"{name:18}{len(row['cpu']):>7}{np.median(row['cpu'][1:]):>12.3f}{np.median(row['wall'][1:]):>13.3f}"
            f"{row['losses'][1]:>14.0f}{row['losses'][-1]:>11.0f}{until(row, target, 'cpu'):>16.2f}"
            f"{row['recall']:>10.4f}{row['ndcg']:>9.4f}{row['bytes'] / 1e6:>6.0f}"
        )
    ours = rows["headrace"]
    full = [row for name, row in rows.items() if name not in ("headrace", *EXACT)]
    equal = ours["losses"][-1] <= 1.001 * min(row["losses"][-1] for row in full)
    equal &= ours["ndcg"] >= 0.99 * max(row["ndcg"] for row in full)
    times = min(float(np.median(row["cpu"][1:])) for row in full) / float(np.median(ours["cpu"][1:]))
    return times, equal


def main() -> None:
    """Print the tables; exit code 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factors", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.factors[0], options.epochs)))
        return
    names = [name for name in SOLVERS if find_spec(name.split()[0]) or name == "headrace"]
    versions = ", ".join(f"{name} {version(name)}" for name in dict.fromkeys(name.split()[0] for name in names))
    print(f"{versions}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")
    check_agreement(names)
    found = {d: compare(d, names, options.epochs) for d in options.factors}
    print("\nan epoch, times faster than the fastest peer:", ", ".join(f"d={d} {x:.1f}" for d, (x, _) in found.items()))
    kept = all(times >= WANTED and equal for times, equal in found.values())
    print(f"at least {WANTED:g} times, at equal loss and ndcg: {'yes' if kept else 'NO'}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
