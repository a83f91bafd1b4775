"""How often a test set was opened: each opening is a line in a log beside the results, written before it is read."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from headrace_training.progress import say

LOG = "test-openings.jsonl"


def note_opening(test: str, model: str, beside: Path | None) -> dict[str, Any]:
    """Note that a test set is about to be opened, and say how often that was done; fields for the report.

    test   : what names the test set: its absolute path, or a log's and the moment it is split at.
    beside : a run's folder or a parameters file; the log lies in its folder. None keeps no log.
    """
    fields: dict[str, Any] = {"test_files_opened": 1}
    if beside is None:
        say(f"the model is frozen; opening {test} for the first and only time")
        return fields
    path = beside.resolve().parent / LOG
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 1 + sum(found == test for found in _tests(path))
    line = json.dumps({"time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "test": test, "model": model})
    with path.open("a", encoding="utf-8") as handle:
        handle.write(line + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    say(f"the model is frozen; opening {test} for the first and only time in this run, number {count} in {path}")
    return fields | {"test_openings": count}


def _tests(path: Path) -> list[str]:
    """The test sets of all whole lines."""
    found = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line)["test"])
        except (ValueError, KeyError, TypeError):
            say(f"warning: a line of {path} cannot be read; it is left out of the count")
    return found
