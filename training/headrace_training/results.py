"""Measured runs on disk: what was asked, what came out, and every line's result, so that two runs can be compared."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import DataError
from headrace.types import Float64, Int64
from headrace_training.metrics import Catalogue, Outcome, Targets, summarize

FORMAT_VERSION = 1
RUN, LINES, TARGETS = "run.json", "lines.parquet", "targets.parquet"


def digest_of(rows: Iterable[str]) -> str:
    """SHA-256 of a test set, the order of its rows aside.

    A row is what was looked for, as text: "user<tab>item" where lines have names of their own, and where they have
    not "number<tab>line", so that files with other lines, or the same ones in another order, differ.
    """
    found = hashlib.sha256()
    for row in sorted(rows):
        found.update(row.encode("utf-8", "surrogateescape") + b"\n")
    return found.hexdigest()


def complete(
    report: dict[str, Any], outcome: Outcome, catalogue: Catalogue, *, format: str, seed: int, save: Path | None = None
) -> dict[str, Any]:
    """The report with the fields of `summarize` and what `compare` needs to know; saved to a folder when asked to."""
    asked = {"format": format, "k": outcome.k, "seed": seed, "test_digest": outcome.digest}
    report = report | summarize(outcome, catalogue, seed) | asked
    if save is not None:
        from headrace_training.report import report_evaluation  # no plots without a run to keep

        save_run(save, report, outcome, catalogue)
        report_evaluation(save, report, outcome, catalogue)
    return report


@dataclass(frozen=True)
class Run:
    """One saved evaluation.

    report   : the JSON object that the command printed, `format`, `k` and `test_digest` included.
    names    : (n,) ids of the lines.   activity : (n,) int64.   accuracy : by metric, (n,) float64.
    targets  : columns of the pairs that were looked for, inside the catalogue: line (an index into names), item (its
               id), rank (from 1, 0 for none), popularity and, where times are known, age_days.
    """

    path: Path
    report: dict[str, Any]
    names: npt.NDArray[np.object_]
    activity: Int64
    accuracy: dict[str, Float64]
    targets: dict[str, npt.NDArray[Any]]


def save_run(folder: Path, report: dict[str, Any], outcome: Outcome, catalogue: Catalogue) -> None:
    """Write a run into a folder, made when absent; an earlier run there is replaced. OSError when it cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    targets = Targets.of(outcome)
    lines: dict[str, Any] = {"line": list(outcome.names), "activity": outcome.activity, **outcome.accuracy}
    of_item = {"popularity": catalogue.counts, "age_days": catalogue.age_days}
    pairs: dict[str, Any] = {
        "line": targets.lines,
        "item": [catalogue.item_ids[item] for item in targets.items.tolist()],
        "rank": targets.ranks,
        **{name: values[targets.items] for name, values in of_item.items() if values is not None},
    }
    for name, columns in ((LINES, lines), (TARGETS, pairs)):
        _replace(folder / name, lambda path, columns=columns: pq.write_table(pa.table(columns), path))
    text = json.dumps({"format_version": FORMAT_VERSION, **report}, allow_nan=False, indent=1)
    _replace(folder / RUN, lambda path: path.write_text(text + "\n", encoding="utf-8"))


def _replace(path: Path, write: Any) -> None:
    """Write beside the file, then put it in its place, so that it is whole or absent."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    os.replace(part, path)


def load_run(path: Path) -> Run:
    """Read a folder that `save_run` wrote, or its run.json; DataError naming what is wrong with it."""
    folder = path.parent if path.name == RUN else path
    if not (folder / RUN).is_file():
        raise DataError(
            f"{path} holds no saved run", expected=f"a folder with {RUN}", hint="make one by: evaluate … --save FOLDER"
        )
    try:
        report = json.loads((folder / RUN).read_text("utf-8"))
        version = report.pop("format_version")
        if version != FORMAT_VERSION:
            raise DataError(f"{folder / RUN}: format_version", got=version, expected=f"{FORMAT_VERSION}")
        return _run(folder, report)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, pa.ArrowException) as error:
        raise DataError(f"{folder} is a damaged run: {error!r}", hint="measure it again") from error


def _run(folder: Path, report: dict[str, Any]) -> Run:
    lines, targets = (pq.read_table(folder / name) for name in (LINES, TARGETS))
    accuracy = {name: lines.column(name).to_numpy() for name in lines.column_names if name not in ("line", "activity")}
    missing = {"format", "test_digest", "k", "model"} - set(report)
    if missing or not accuracy or not len(lines):
        raise KeyError(", ".join(sorted(missing)) or "lines")
    if not all(np.isfinite(values).all() for values in accuracy.values()):
        raise ValueError("a metric is not a finite number")
    return Run(
        folder,
        report,
        lines.column("line").to_numpy(),
        lines.column("activity").to_numpy(),
        accuracy,
        {name: targets.column(name).to_numpy() for name in targets.column_names},
    )
