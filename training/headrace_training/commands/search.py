"""`headrace-train search`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from headrace.errors import ConfigError, DataError
from headrace_training.commands.output import put
from headrace_training.problems import interactions_problem, sequences_problem, sessions_problem
from headrace_training.report import PAGE, report_search
from headrace_training.search import BEST
from headrace_training.search import search as run_search


def search(
    train: Annotated[Path, typer.Option(help="Training data; no test file is opened.")],
    study: Annotated[Path, typer.Option(help="Folder of the search; the same one again resumes it.")],
    minutes: Annotated[float | None, typer.Option(help="Time of this call.")] = None,
    trials: Annotated[int | None, typer.Option(help="Trials of the study, those of earlier calls included.")] = None,
    format: Annotated[str, typer.Option(help="interactions, sessions or sequences.")] = "interactions",
    model: Annotated[str, typer.Option(help="A model, or auto for all that have parameters to search.")] = "auto",
    k: Annotated[int, typer.Option(help="Length of the ranking.")] = 20,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Look for parameters by validation inside the training data, within a time budget."""
    if format not in PROBLEMS:
        raise ConfigError("--format", got=format, expected=", ".join(PROBLEMS))
    if minutes is None and trials is None:
        raise ConfigError("--minutes", got=None, expected="a number above 0", hint="give --minutes, --trials or both")
    if minutes is not None and not 0 < minutes <= MAX_MINUTES:
        raise ConfigError("--minutes", got=minutes, expected=f"above 0, to {MAX_MINUTES}")
    if trials is not None and trials < 1:
        raise ConfigError("--trials", got=trials, expected="a whole number from 1")
    if not train.exists():
        raise DataError(f"{train} does not exist", hint="give the training file with --train")
    start = time.perf_counter()
    problem = PROBLEMS[format](train, model, k, seed)
    best, tried = run_search(problem, study, minutes=minutes, n_trials=trials, seed=seed)
    page = study / PAGE
    report_search(study, problem, tried, best)
    put(
        {
            "model": best.model,
            "parameters": best.parameters,
            f"validation_{problem.metric}": best.value,
            "trials": len(tried),
            "failed_trials": sum(trial.value is None for trial in tried),
            "search_seconds": time.perf_counter() - start,
            "test_files_opened": 0,
            "parameters_file": str(study / BEST),
            "report": str(page) if page.exists() else "",
        },
        json,
    )


MAX_MINUTES = 100_000
PROBLEMS = {
    "interactions": interactions_problem,
    "sessions": sessions_problem,
    "sequences": sequences_problem,
}
