"""A search for parameters on validation data only: seeded, within a time budget, resumed where it was stopped."""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from headrace.errors import ConfigError, DataError, HeadraceError
from headrace_training.models.base import Parameters
from headrace_training.progress import say
from headrace_training.space import Choice, Real, Space

JOURNAL, BEST, LOCK = "journal.log", "best.json", "lock"


@dataclass(frozen=True)
class Problem:
    """What is searched for.

    format  : of the data.   metric : name of what is measured, higher is better.
    digest  : of the training data, so that a study is not resumed on others.
    spaces  : by model name what may be tried.   defaults : by model name a first trial inside the space.
    measure : fits a model with these parameters on a part of train and measures it on the rest; in [0, 1].
    """

    format: str
    metric: str
    digest: str
    spaces: Mapping[str, Space]
    defaults: Mapping[str, Parameters]
    measure: Callable[[str, Parameters], float]


@dataclass(frozen=True)
class Trial:
    """One point that was tried; ``value`` None when the model could not be measured there."""

    model: str
    parameters: Parameters
    value: float | None
    seconds: float


def search(
    problem: Problem, folder: Path, *, minutes: float | None, n_trials: int | None, seed: int
) -> tuple[Trial, list[Trial]]:
    """The best trial of a study, older ones included, and all of them in order.

    Stops before a trial that would likely end after ``minutes`` of this call, or when the study has ``n_trials``; the
    defaults of each model are tried first and always. A study that was killed goes on with the trial it was at, and
    ends as it would have otherwise. Tree-structured Parzen estimator, Bergstra et al., NeurIPS 2011.

    Raises ConfigError for a study of something else or one that another process works on, DataError when no trial
    could be measured.
    """
    if find_spec("optuna") is None:
        raise ConfigError("optuna is not installed", hint="pip install 'headrace[train]'")
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        study = _open_study(problem, folder, seed)
        start = time.monotonic()
        while _goes_on(problem, study, start, minutes, n_trials):
            _one_trial(problem, study, seed)
        trials = _trials(problem, study)
        best = _best(trials)
        _write_best(folder / BEST, problem, best)
    return best, trials


def _best(trials: list[Trial]) -> Trial:
    measured = [trial for trial in trials if trial.value is not None]
    if not measured:
        raise DataError("no trial could be measured", hint="look at the warnings above")
    return max(measured, key=lambda trial: trial.value or 0.0)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"another search works on {folder}", hint="wait for it, or name another --study"
            ) from error
        yield


class _NoLock:
    """The journal's own lock outlives a killed process; ours, which is held already, does not."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None: ...


def _open_study(problem: Problem, folder: Path, seed: int) -> Any:
    """The study of a folder, made when absent; what a killed run left unfinished is given up, to be tried again."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL), _NoLock())
    storage = optuna.storages.JournalStorage(journal)
    study = optuna.create_study(storage=storage, study_name="search", direction="maximize", load_if_exists=True)
    asked = {
        "format": problem.format,
        "metric": problem.metric,
        "train": problem.digest,
        "models": ", ".join(problem.spaces),
        "seed": seed,
    }
    for name, value in asked.items():
        if study.user_attrs.setdefault(name, value) != value:
            raise ConfigError(
                f"{folder} holds a study of another {name}",
                got=str(value)[:64],
                expected=str(study.user_attrs[name])[:64],
                hint="name another folder with --study",
            )
        study.set_user_attr(name, value)
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _finished(study: Any) -> list[Any]:
    """Trials that came to their end, measured or not; not those that were killed."""
    from optuna.trial import TrialState

    trials: list[Any] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return trials


def _goes_on(problem: Problem, study: Any, start: float, minutes: float | None, n_trials: int | None) -> bool:
    finished = _finished(study)
    if n_trials is not None and len(finished) >= n_trials:
        return False
    if minutes is None or len(finished) < len(problem.spaces):
        return True
    left = minutes * 60 - (time.monotonic() - start)
    typical: float = median(trial.duration.total_seconds() for trial in finished)
    return left > typical


def _one_trial(problem: Problem, study: Any, seed: int) -> None:
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    number = len(_finished(study))
    # a sampler of its own for each trial: what is tried depends on the trials before, not on when they were made
    study.sampler = TPESampler(seed=(seed * 1_000_003 + number) % 2**32, n_startup_trials=10, multivariate=False)
    if number < len(problem.spaces):
        _enqueue_default(problem, study, list(problem.spaces)[number])
    trial = study.ask()
    model, parameters = _suggest(problem, trial)
    start = time.perf_counter()
    try:
        value = problem.measure(model, parameters)
    except HeadraceError as error:
        say(f"  trial {number + 1}: {_text(model, parameters)}: {error}")
        study.tell(trial, state=TrialState.PRUNED)
        return
    if not math.isfinite(value):
        raise HeadraceError("a metric is not a finite number")
    study.tell(trial, value)
    seconds = time.perf_counter() - start
    say(f"  trial {number + 1}: {problem.metric} {value:.4f} in {seconds:.1f} s, {_text(model, parameters)}")


def _text(model: str, parameters: Parameters) -> str:
    values = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in parameters.items()
    )
    return f"{model}: {', '.join(values)}"


def _enqueue_default(problem: Problem, study: Any, model: str) -> None:
    from optuna.trial import TrialState

    for waiting in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(waiting.number, state=TrialState.FAIL)
    values = {_key(model, name): problem.defaults[model][name] for name in problem.spaces[model]}
    study.enqueue_trial({"model": model, **values})


def _key(model: str, parameter: str) -> str:
    return f"{model}: {parameter}"


def _suggest(problem: Problem, trial: Any) -> tuple[str, Parameters]:
    model = trial.suggest_categorical("model", list(problem.spaces))
    parameters: Parameters = {}
    for name, span in problem.spaces[model].items():
        key = _key(model, name)
        if isinstance(span, Choice):
            parameters[name] = trial.suggest_categorical(key, list(span.options))
        elif isinstance(span, Real):
            parameters[name] = trial.suggest_float(key, span.low, span.high, log=span.log)
        else:
            parameters[name] = trial.suggest_int(key, span.low, span.high, log=span.log)
    return model, parameters


def _trials(problem: Problem, study: Any) -> list[Trial]:
    found = []
    for trial in _finished(study):
        model = trial.params["model"]
        parameters = {name: trial.params[_key(model, name)] for name in problem.spaces[model]}
        found.append(Trial(model, parameters, trial.value, trial.duration.total_seconds()))
    return found


def _write_best(path: Path, problem: Problem, best: Trial) -> None:
    part = path.with_name(f".{path.name}.part")
    found = {"format": problem.format, "model": best.model, "parameters": best.parameters, problem.metric: best.value}
    part.write_text(json.dumps(found, allow_nan=False, indent=1) + "\n", "utf-8")
    os.replace(part, path)


def read_parameters(path: Path, asked: str = "auto") -> tuple[str, Parameters]:
    """Model and parameters of a file that `search` wrote, or a like one; DataError for anything else.

    Raises ConfigError when another model than the file's is asked for.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        model, parameters = found["model"], found.get("parameters", {})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} holds no parameters",
            expected='{"model": …, "parameters": {…}}',
            hint="headrace-train search writes one",
        ) from error
    if not isinstance(model, str) or not isinstance(parameters, dict):
        raise DataError(f"{path} holds no parameters", expected="a model's name and a table of values")
    if asked not in ("auto", model):
        raise ConfigError("--model", got=asked, expected=model, hint=f"{path} holds parameters of {model}")
    return model, parameters
