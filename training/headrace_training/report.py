"""The HTML reports of `evaluate --save`, `search` and `fit`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from headrace.artifact_format import Manifest
from headrace.page import Section, missing, number, write_page
from headrace.plots import bars, curves, points
from headrace.types import Float64, Int64
from headrace_training.metrics import Catalogue, Outcome
from headrace_training.progress import say
from headrace_training.search import Problem, Trial
from headrace_training.space import Real, Whole

PAGE = "report.html"


@dataclass
class FitTrace:
    """What a run of `fit` leaves for its report beside the manifest.

    tried : validation figures by name.   curves : values by epoch, by name.
    reliability : (expected, actual) share of purchases in each bin of a held-out sample.
    """

    tried: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    reliability: list[tuple[float, float]] = field(default_factory=list)


N_ITEMS_SHOWN = 10
N_TRIALS_SHOWN = 15
SLICES = {
    "activity": "how many items were known of the user or line",
    "item_popularity": "how many people took the item that was looked for",
    "item_age_days": "days since the item's first event",
}


def report_evaluation(folder: Path, report: Mapping[str, Any], outcome: Outcome, catalogue: Catalogue) -> None:
    """Accuracy with intervals, for whom, what is covered, and how the model came about."""
    if not _can_write():
        return
    shown = np.bincount(outcome.ranked[outcome.ranked >= 0], minlength=len(catalogue.item_ids))
    sections = [
        _accuracy(report),
        *_slices(report),
        _coverage(report, outcome, catalogue, shown),
        *_validation(report.get("selection", {}), report.get("curves", {})),
        *_weights(report["parameters"]),
        _table("Parameters", report["parameters"]),
        _table("The run", {name: report[name] for name in RUN_FIELDS if name in report}),
    ]
    _write(folder / PAGE, f"{report['model']} on {report['format']}", sections)


def _can_write() -> bool:
    """Whether the packages are there; says so when they are not."""
    lacking = missing()
    if lacking:
        say(f"no HTML report: {' and '.join(lacking)} not installed; pip install 'headrace[train]'")
    return not lacking


def _write(path: Path, title: str, sections: Sequence[Section]) -> None:
    write_page(path, title, sections)
    say(f"report: {path}")


RUN_FIELDS = (
    "seed", "test_digest", "test_openings", "users", "lines", "items", "cold_users", "unseen_test_items",
    "overlap_pairs", "select_seconds", "fit_seconds", "evaluate_seconds", "peak_rss_bytes",
)  # fmt: skip


def _accuracy(report: Mapping[str, Any]) -> Section:
    found = report["intervals"]
    rows = [[name, number(report[name]), f"{low:.4f} to {high:.4f}"] for name, (low, high) in found.items()]
    plot = bars("mean, with its 95 % interval", list(found), [report[name] for name in found], list(found.values()))
    return Section("Accuracy", "", [plot], ("", "mean", "95 % interval"), rows)


def _slices(report: Mapping[str, Any]) -> list[Section]:
    found = []
    for name, groups in report["slices"].items():
        if not groups:
            continue
        metric = next(iter(groups[0]["intervals"]))
        labels = [f"{group['from']:.4g} to {group['to']:.4g}" for group in groups]
        plot = bars(
            metric, labels, [group[metric] for group in groups], [group["intervals"][metric] for group in groups]
        )
        found.append(Section(f"By {name.replace('_', ' ')}", f"Groups: {SLICES.get(name, name)}.", [plot]))
    return found


def _coverage(report: Mapping[str, Any], outcome: Outcome, catalogue: Catalogue, shown: Int64) -> Section:
    k = outcome.k
    names = [f"{name}@{k}" for name in ("coverage", "gini", "novelty", "diversity", "recommended_popularity")]
    taken = catalogue.counts
    plot = curves(
        "share of the items, least first",
        "share of all places",
        {"shown": lorenz(shown), "taken in train": lorenz(taken)},
        diagonal=True,
    )
    best = [item for item in np.argsort(-shown, kind="stable")[:N_ITEMS_SHOWN].tolist() if shown[item]]
    rows = [[name, number(report[name]), ""] for name in (*names, "profile_popularity")]
    rows += [[catalogue.item_ids[item], f"{shown[item]} lists", f"{taken[item]} in train"] for item in best]
    note = "The nearer a curve is to the line, the more evenly items have their places. Below, the most shown items."
    return Section("Coverage", note, [plot], ("", "", ""), rows)


def lorenz(counts: Int64) -> tuple[list[float], list[float]]:
    """Share of all counts that the least share of the items holds, at 101 points."""
    sums = np.concatenate([[0], np.cumsum(np.sort(counts))]).astype(np.float64)
    share: Float64 = sums / max(1.0, sums[-1])
    at = np.linspace(0, len(counts), 101)
    return (at / max(1, len(counts))).tolist(), np.interp(at, np.arange(len(share)), share).tolist()


def _validation(tried: Mapping[str, float], losses: Mapping[str, Sequence[float]]) -> list[Section]:
    found = []
    if tried:
        best = sorted(tried.items(), key=lambda pair: -pair[1])[:N_TRIALS_SHOWN]
        plot = bars("validation", [name for name, _ in best], [value for _, value in best])
        found.append(Section("What was tried", f"The best of {len(tried)}, on a part held out of train.", [plot]))
    for name, values in losses.items():
        plot = curves("epoch", name, {name: (list(range(1, len(values) + 1)), values)})
        found.append(Section(f"{name} by epoch".capitalize(), "", [plot]))
    return found


def _weights(parameters: Mapping[str, Any]) -> list[Section]:
    """Parameters that are weights, as bars; nothing for a model without any."""
    weights = {name: float(value) for name, value in parameters.items() if _is_weight(name, value)}
    if not weights:
        return []
    return [Section("Blend weights", "", [bars("weight", list(weights), list(weights.values()))])]


def _is_weight(name: str, value: object) -> bool:
    return "weight" in name and isinstance(value, int | float) and not isinstance(value, bool)


def _table(heading: str, values: Mapping[str, Any]) -> Section:
    return Section(
        heading, "" if values else "None.", (), ("", ""), [[name, number(value)] for name, value in values.items()]
    )


def report_fit(path: Path, manifest: Manifest, calibration: tuple[Float64, Float64], fit: FitTrace) -> None:
    """What was tried, the weights of what is served, the calibration, and every figure of the manifest.

    calibration : raw scores, ascending, and the probabilities they stand for.
    """
    if not _can_write():
        return
    found = manifest.metrics
    chosen = {name.removeprefix("chosen_"): value for name, value in found.items() if name.startswith("chosen_")}
    served = {name: value for name, value in found.items() if name.split("@")[0] in SERVED}
    blend = msgspec.to_builtins(getattr(manifest, "blend", None)) or {}
    sections = [
        Section("Accuracy and coverage", "On the last slice, by factors that did not see it.", [_bars(served)]),
        *_validation({**fit.tried, **chosen}, fit.curves),
        *_weights({"factors weight": 1.0, **blend} if blend else {}),
        *_calibration(calibration, fit.reliability),
        _table("Figures", found),
        _table("Parameters", {**manifest.parameters, **blend}),
        _table("The run", {name: getattr(manifest, name) for name in MANIFEST_FIELDS}),
    ]
    _write(path, f"Version {manifest.version}", sections)


SERVED = ("recall", "ndcg", "coverage", "factors_recall", "factors_ndcg", "factors_coverage")
MANIFEST_FIELDS = ("n_users", "n_items", "n_factors", "alpha", "regularization", "index_type", "repeat_policy")


def _bars(values: Mapping[str, float]) -> str:
    return bars("", list(values), list(values.values()))


def _calibration(learned: tuple[Float64, Float64], reliability: Sequence[tuple[float, float]]) -> list[Section]:
    found = []
    if reliability:
        pairs = ([expected for expected, _ in reliability], [actual for _, actual in reliability])
        plot = curves("expected share", "share that bought", {"bins of equal expected purchases": pairs}, diagonal=True)
        found.append(Section("Calibration, measured", "On the last slice; the nearer to the line the better.", [plot]))
    x, y = learned
    plot = curves("raw score", "probability", {"calibration": (x.tolist(), y.tolist())})
    return [*found, Section("Calibration, learned", "What turns a raw score into a probability.", [plot])]


def report_search(folder: Path, problem: Problem, trials: Sequence[Trial], best: Trial) -> None:
    """How the best value grew over trials and time, what each parameter did, and the best trials."""
    if not _can_write():
        return
    measured = [(n, trial) for n, trial in enumerate(trials, start=1) if trial.value is not None]
    of_model = {name: [pair for pair in measured if pair[1].model == name] for name in problem.spaces}
    of_model = {name: found for name, found in of_model.items() if found}
    sections = [
        *_search_plots(problem.metric, trials, of_model),
        *_parameter_plots(problem, best.model, of_model[best.model]),
        *_weights(best.parameters),
        _table(f"Best: {best.model}", {**best.parameters, problem.metric: best.value}),
        _best_trials(problem.metric, measured),
    ]
    _write(folder / PAGE, f"Search on {problem.format}", sections)


def _search_plots(
    metric: str, trials: Sequence[Trial], of_model: Mapping[str, Sequence[tuple[int, Trial]]]
) -> list[Section]:
    minutes = list(itertools.accumulate(trial.seconds / 60 for trial in trials))
    so_far = list(itertools.accumulate((trial.value or 0.0 for trial in trials), max))
    n_failed = len(trials) - sum(map(len, of_model.values()))
    by_number = {name: ([n for n, _ in found], _values(found)) for name, found in of_model.items()}
    by_time = {name: ([trial.seconds for _, trial in found], _values(found)) for name, found in of_model.items()}
    best = curves("minutes", metric, {"best so far": (minutes, so_far)}, steps=True)
    return [
        Section("The best so far, by time", "", [best]),
        Section("Trials", f"{len(trials)}, {n_failed} of them failed.", [points("trial", metric, by_number)]),
        Section(
            "Recall against time", "Seconds to fit and to measure.", [points("seconds", metric, by_time, log=True)]
        ),
    ]


def _best_trials(metric: str, measured: Sequence[tuple[int, Trial]]) -> Section:
    ranked = sorted(measured, key=lambda pair: -(pair[1].value or 0.0))[:N_TRIALS_SHOWN]
    rows = [[str(n), trial.model, number(trial.value), _text(trial.parameters)] for n, trial in ranked]
    return Section("The best trials", "", (), ("trial", "model", metric, "parameters"), rows)


def _values(found: Sequence[tuple[int, Trial]]) -> list[float]:
    return [trial.value or 0.0 for _, trial in found]


def _text(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number(value)}" for name, value in parameters.items())


def _parameter_plots(problem: Problem, model: str, found: Sequence[tuple[int, Trial]]) -> list[Section]:
    plots = []
    for name, span in problem.spaces[model].items():
        if isinstance(span, Real | Whole):
            x = [float(trial.parameters[name] or 0.0) for _, trial in found]
            plots.append(points(name, problem.metric, {model: (x, _values(found))}, log=span.log))
    return [Section(f"Parameters of {model}", "", plots)] if plots else []
