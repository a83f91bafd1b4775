"""Is one measured run better than another, how sure is that, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError
from headrace.types import Bool, Float64, Int32
from headrace_training.intervals import LEVEL, bootstrap_means, interval, sign_flip_p
from headrace_training.metrics import quantile_groups
from headrace_training.progress import say
from headrace_training.results import Run, load_run

N_RESAMPLES = 2000
DIFFERENCE = 1 - LEVEL
"""A p-value below this is called a difference."""

SAME = {
    "format": "the two were measured in different formats",
    "k": "the two rankings have different lengths",
    "test_digest": "the two were measured on different test sets",
}


@dataclass(frozen=True)
class Paired:
    """Results of the same lines, in the same order: ``accuracy`` is b's and a's by metric, (n,) float64 each."""

    a: dict[str, Float64]
    b: dict[str, Float64]

    def rows(self, rows: npt.NDArray[np.intp]) -> Paired:
        return Paired(*({name: values[rows] for name, values in side.items()} for side in (self.a, self.b)))


def compare_runs(path_a: Path, path_b: Path, seed: int = 0) -> dict[str, Any]:
    """b against a, two folders that `evaluate --save` wrote.

    Each metric has both means, their difference with a 95 % paired bootstrap interval, the p-value of the sign-flip
    test and `probability_better`, the share of resamples in which b is ahead. `verdict` is better, worse, mixed or
    "no difference". The slices' intervals hold together: each is at 1 - .05 / (number of groups).

    Raises DataError when the two were not measured on the same lines.
    """
    a, b = load_run(path_a), load_run(path_b)
    check_same(a, b)
    order_a, order_b = np.argsort(a.names, kind="stable"), np.argsort(b.names, kind="stable")
    if (a.names[order_a] != b.names[order_b]).any():
        raise DataError("the two runs hold different lines", got=str(b.path), expected=f"the lines of {a.path}")
    paired = Paired(
        {name: values[order_a] for name, values in a.accuracy.items()},
        {name: values[order_b] for name, values in b.accuracy.items()},
    )
    metrics = _metrics(paired, seed, 1)
    unit = "users" if "users" in a.report else "lines"
    return {
        "verdict": verdict(metrics),
        unit: len(a.names),
        "a": _about(a),
        "b": _about(b),
        "metrics": metrics,
        "slices": {"activity": _line_slices(paired, a.activity[order_a], unit, seed), **_item_slices(a, b, unit, seed)},
    }


def check_same(a: Run, b: Run) -> None:
    """DataError naming the first thing that makes two runs no pair."""
    for name, text in SAME.items():
        if a.report[name] != b.report[name]:
            raise DataError(
                f"{text}: {name} of {a.path} and {b.path}",
                got=f"{str(a.report[name])[:16]} and {str(b.report[name])[:16]}",
                expected="the same",
                hint="evaluate both models with the same --test, --format and --k",
            )
    if set(a.accuracy) != set(b.accuracy) or len(a.names) != len(b.names):
        raise DataError(f"{a.path} and {b.path} hold different metrics or numbers of lines", hint="measure both again")


def verdict(metrics: dict[str, dict[str, Any]], n_tests: int = 1) -> str:
    """What the metrics whose p-value is below .05 / n_tests agree on."""
    signs = {row["difference"] > 0 for row in metrics.values() if row["p_value"] < DIFFERENCE / n_tests}
    if not signs:
        return "no difference"
    return "mixed" if len(signs) == 2 else "better" if signs.pop() else "worse"


def _about(run: Run) -> dict[str, Any]:
    return {"path": str(run.path), "model": run.report["model"], "parameters": run.report.get("parameters", {})}


def _metrics(paired: Paired, seed: int, n_tests: int) -> dict[str, dict[str, Any]]:
    names = list(paired.a)
    differences = np.column_stack([paired.b[name] - paired.a[name] for name in names])
    means = bootstrap_means(differences, seed, N_RESAMPLES)
    return {
        name: {
            "a": float(paired.a[name].mean()),
            "b": float(paired.b[name].mean()),
            "difference": float(differences[:, column].mean()),
            "interval": interval(means[:, column], 1 - DIFFERENCE / n_tests),
            "p_value": sign_flip_p(differences[:, column], seed),
            "probability_better": float((means[:, column] > 0).mean() + (means[:, column] == 0).mean() / 2),
        }
        for column, name in enumerate(names)
    }


def _line_slices(paired: Paired, values: npt.NDArray[Any], unit: str, seed: int) -> list[dict[str, Any]]:
    by_group = _rows_by_group(quantile_groups(values))
    return [_slice(values[rows], paired.rows(rows), unit, seed, len(by_group)) for rows in by_group]


def _slice(values: npt.NDArray[Any], paired: Paired, unit: str, seed: int, n_groups: int) -> dict[str, Any]:
    metrics = _metrics(paired, seed, n_groups)
    return {
        "from": values.min().item(),
        "to": values.max().item(),
        unit: len(next(iter(paired.a.values()))),
        "verdict": verdict(metrics, n_groups),
        "metrics": metrics,
    }


def _rows_by_group(groups: Int32) -> list[npt.NDArray[np.intp]]:
    return [np.flatnonzero(groups == group) for group in range(int(groups.max(initial=-1)) + 1)]


def _item_slices(a: Run, b: Run, unit: str, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Recall of a line's items by what kind of items they are; groups by the popularity and age that a's train knew."""
    order_a, order_b = _target_order(a), _target_order(b)
    names_a, names_b = (run.names[run.targets["line"]][order] for run, order in ((a, order_a), (b, order_b)))
    items_a, items_b = a.targets["item"][order_a], b.targets["item"][order_b]
    if len(items_a) != len(items_b) or (items_a != items_b).any() or (names_a != names_b).any():
        say("the two were trained with different catalogues: no slices by item")
        return {}
    lines = np.unique(names_a, return_inverse=True)[1]
    hits = tuple(run.targets["rank"][order] > 0 for run, order in ((a, order_a), (b, order_b)))
    found = {}
    for column, name in (("popularity", "item_popularity"), ("age_days", "item_age_days")):
        if column in a.targets:
            values = a.targets[column][order_a]
            by_group = _rows_by_group(quantile_groups(values))
            pairs = [_recall(lines[rows], hits[0][rows], hits[1][rows], f"recall@{a.report['k']}") for rows in by_group]
            found[name] = [
                _slice(values[rows], paired, unit, seed, len(by_group))
                for rows, paired in zip(by_group, pairs, strict=True)
            ]
    return found


def _target_order(run: Run) -> npt.NDArray[np.intp]:
    return np.lexsort((run.targets["item"], run.names[run.targets["line"]]))


def _recall(lines: npt.NDArray[np.intp], a: Bool, b: Bool, metric: str) -> Paired:
    """Share of each line's pairs that are hits; one entry a line that has any."""
    at = np.unique(lines, return_inverse=True)[1]
    return Paired(*({metric: np.bincount(at, hits) / np.bincount(at)} for hits in (a, b)))
