"""`headrace-train search`: seeded, resumed after a kill, inside its budget, and its parameters can be fed back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import ConfigError, DataError, HeadraceError
from headrace_training.models import MODELS, make_model
from headrace_training.models.base import Parameters
from headrace_training.openings import LOG
from headrace_training.search import BEST, Problem, read_parameters, search
from headrace_training.space import Choice, Real, Space, Whole, space_of

SPACES: dict[str, Space] = {
    "hill": {"x": Real(0.0, 1.0), "steps": Whole(1, 9), "kind": Choice(("soft", "hard"))},
    "slope": {"y": Real(0.001, 10.0, log=True)},
}
DEFAULTS: dict[str, Parameters] = {"hill": {"x": 0.5, "steps": 3, "kind": "soft"}, "slope": {"y": 1.0}}


def height(model: str, values: Parameters) -> float:
    if model == "slope":
        return 0.1
    bonus = 0.1 if values["kind"] == "hard" else 0.0
    return 0.8 - (float(values["x"] or 0) - 0.3) ** 2 - 0.01 * abs(int(values["steps"] or 0) - 7) + bonus


def problem(measure: Callable[[str, Parameters], float] = height, **changes: Any) -> Problem:
    fields: dict[str, Any] = {
        "format": "made",
        "metric": "height",
        "digest": "d",
        "spaces": SPACES,
        "defaults": DEFAULTS,
        "measure": measure,
    }
    return Problem(**(fields | changes))


def test_it_tries_every_default_first_and_then_finds_better(tmp_path: Path) -> None:
    best, trials = search(problem(), tmp_path, minutes=None, n_trials=60, seed=1)
    assert [(trial.model, trial.parameters) for trial in trials[:2]] == [(name, DEFAULTS[name]) for name in SPACES]
    assert len(trials) == 60
    assert best.value == max(trial.value or 0 for trial in trials)
    assert (best.model, best.parameters["kind"]) == ("hill", "hard")
    assert best.value > 0.87
    assert read_parameters(tmp_path / BEST) == (best.model, best.parameters)


def test_one_seed_gives_one_search_and_stopping_it_changes_nothing(tmp_path: Path) -> None:
    _, whole = search(problem(), tmp_path / "a", minutes=None, n_trials=25, seed=3)
    for n_trials in (1, 7, 16, 25, 25):
        _, parts = search(problem(), tmp_path / "b", minutes=None, n_trials=n_trials, seed=3)
    _, other = search(problem(), tmp_path / "c", minutes=None, n_trials=25, seed=4)
    points = [[(trial.model, trial.parameters, trial.value) for trial in trials] for trials in (whole, parts, other)]
    assert points[0] == points[1]
    assert points[0] != points[2]


KILLED = """
import importlib.util, os, signal, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("parent", sys.argv[1])
parent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parent)
calls = []
def measure(model, values):
    calls.append(model)
    if len(calls) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    return parent.height(model, values)
parent.search(parent.problem(measure), Path(sys.argv[2]), minutes=None, n_trials=25, seed=3)
"""


def test_a_killed_search_ends_as_it_would_have(tmp_path: Path) -> None:
    """Killed in the first trial, in the second and in the ninth after that, each time while a trial runs."""
    for at in (1, 2, 9):
        command = [sys.executable, "-c", KILLED, __file__, str(tmp_path / "killed"), str(at)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == -signal.SIGKILL, done.stderr
    best, trials = search(problem(), tmp_path / "killed", minutes=None, n_trials=25, seed=3)
    expected, whole = search(problem(), tmp_path / "whole", minutes=None, n_trials=25, seed=3)
    assert [(trial.parameters, trial.value) for trial in trials] == [(trial.parameters, trial.value) for trial in whole]
    assert (best.model, best.parameters, best.value) == (expected.model, expected.parameters, expected.value)


def test_a_spent_budget_ends_it_but_not_before_the_defaults(tmp_path: Path) -> None:
    _, trials = search(problem(), tmp_path, minutes=1e-9, n_trials=None, seed=0)
    assert len(trials) == len(SPACES)
    _, trials = search(problem(), tmp_path, minutes=1e-9, n_trials=None, seed=0)
    assert len(trials) == len(SPACES)


def test_a_model_that_cannot_be_measured_is_left_behind(tmp_path: Path) -> None:
    def measure(model: str, values: Parameters) -> float:
        if values.get("kind") == "soft":
            raise HeadraceError("a score is infinite")
        return height(model, values)

    best, trials = search(problem(measure), tmp_path, minutes=None, n_trials=20, seed=0)
    failed = [trial for trial in trials if trial.value is None]
    assert failed
    assert len(trials) == 20
    assert best.parameters.get("kind") != "soft"


def test_when_nothing_can_be_measured_it_says_so(tmp_path: Path) -> None:
    def measure(model: str, values: Parameters) -> float:
        raise HeadraceError("a score is infinite")

    with pytest.raises(DataError, match="no trial could be measured"):
        search(problem(measure), tmp_path, minutes=None, n_trials=3, seed=0)
    assert not (tmp_path / BEST).exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_is_an_error(tmp_path: Path, value: float) -> None:
    with pytest.raises(HeadraceError, match="not a finite number"):
        search(problem(lambda model, values: value), tmp_path, minutes=None, n_trials=3, seed=0)


@pytest.mark.parametrize(
    "changes", [{"digest": "e"}, {"metric": "depth"}, {"format": "other"}, {"spaces": {"hill": SPACES["hill"]}}]
)
def test_a_study_of_something_else_is_not_resumed(tmp_path: Path, changes: dict[str, Any]) -> None:
    search(problem(), tmp_path, minutes=None, n_trials=2, seed=0)
    with pytest.raises(ConfigError, match="a study of another"):
        search(problem(**changes), tmp_path, minutes=None, n_trials=3, seed=0)
    with pytest.raises(ConfigError, match="a study of another seed"):
        search(problem(), tmp_path, minutes=None, n_trials=3, seed=1)


def test_two_searches_do_not_share_a_study(tmp_path: Path) -> None:
    def measure(model: str, values: Parameters) -> float:
        with pytest.raises(ConfigError, match="another search works on"):
            search(problem(), tmp_path, minutes=None, n_trials=9, seed=0)
        return 0.5

    search(problem(measure), tmp_path, minutes=None, n_trials=1, seed=0)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_defaults_of_every_model_lie_in_its_space(name: str) -> None:
    model = make_model(name)
    for parameter, span in space_of(model).items():
        value = model.parameters[parameter]
        if isinstance(span, Choice):
            assert value in span.options
        else:
            assert isinstance(value, int | float)
            assert span.low <= value <= span.high
            assert span.low > 0 or not span.log
    assert make_model(name, 0, model.parameters).parameters == model.parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("graph", {"depth": 3}),
        ("graph", {"low_pass": float("nan")}),
        ("graph", {"low_pass": float("inf")}),
        ("graph", {"low_pass": [1]}),
        ("blend", {"graph.depth": 3}),
        ("blend", {"popularity.x": 3}),
        ("popularity", {"seed.x": 1}),
        ("magic", {}),
    ],
)
def test_parameters_that_are_none_are_refused(name: str, parameters: Any) -> None:
    with pytest.raises(ConfigError):
        make_model(name, 0, parameters)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model": 3}', '{"model": "graph", "parameters": [1]}'])
def test_a_file_without_parameters_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "best.json"
    path.write_text(text)
    with pytest.raises(DataError, match="holds no parameters"):
        read_parameters(path)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for name, n in (("train", 8), ("test", 2)):
        lines = [
            " ".join([f"u{user}", *(f"i{(user % 4) * 9 + rng.integers(9)}" for _ in range(n))]) for user in range(80)
        ]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path / "train", tmp_path / "test"


def test_search_then_evaluate_with_what_it_found(headrace_train: Any, tmp_path: Path, files: tuple[Path, Path]) -> None:
    train, test = files
    study = tmp_path / "study"
    options = ("--study", study, "--trials", 5, "--model", "itemknn", "--json")
    code, out, err = headrace_train("search", "--train", train, *options)
    assert code == 0, err
    found = json.loads(out)
    assert out.count("\n") == 1
    assert (found["model"], found["trials"], found["test_files_opened"]) == ("itemknn", 5, 0)
    assert 0 < found["validation_recall@20"] <= 1
    for number in (1, 2):
        measure = ("evaluate", "--train", train, "--test", test, "--parameters", found["parameters_file"], "--json")
        code, out, err = headrace_train(*measure)
        assert code == 0, err
        report = json.loads(out)
        assert (report["model"], report["parameters"]) == ("itemknn", found["parameters"])
        assert (report["test_files_opened"], report["test_openings"]) == (1, number)
        assert f"number {number} in" in err
    assert len((study / LOG).read_text().splitlines()) == 2


def test_each_test_file_is_counted_for_itself_beside_the_runs(
    headrace_train: Any, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    train, test = files
    other = tmp_path / "other"
    other.write_text("u1 30\n")
    counts = []
    for number, path in enumerate((test, other, test)):
        save = tmp_path / "runs" / str(number)
        arguments = ("--train", train, "--test", path, "--model", "popularity", "--save", save, "--json")
        code, out, err = headrace_train("evaluate", *arguments)
        assert code == 0, err
        counts.append(json.loads(out)["test_openings"])
    assert counts == [1, 1, 2]


def test_an_opening_is_noted_before_the_test_file_is_read(
    headrace_train: Any, tmp_path: Path, files: tuple[Path, Path]
) -> None:
    train, bad = files[0], tmp_path / "bad.csv"
    bad.write_text("no,columns\n1,2\n")
    arguments = ("--train", train, "--test", bad, "--model", "popularity", "--save", tmp_path / "runs" / "one")
    assert headrace_train("evaluate", *arguments)[0] == 2
    assert len((tmp_path / "runs" / LOG).read_text().splitlines()) == 1


BAD_USAGE = [
    ["--train", "{train}"],
    ["--train", "{absent}", "--trials", "1"],
    ["--train", "{train}", "--minutes", "0"],
    ["--train", "{train}", "--minutes", "nan"],
    ["--train", "{train}", "--minutes", "inf"],
    ["--train", "{train}", "--trials", "0"],
    ["--train", "{train}", "--trials", "1", "--model", "popularity"],
    ["--train", "{train}", "--trials", "1", "--model", "magic"],
    ["--train", "{train}", "--trials", "1", "--format", "shopping"],
    ["--train", "{train}", "--trials", "1", "--k", "0"],
    ["--train", "{small}", "--trials", "1"],
]


@pytest.mark.parametrize("options", BAD_USAGE)
def test_bad_usage_of_search_ends_with_2(
    headrace_train: Any, tmp_path: Path, files: tuple[Path, Path], options: list[str]
) -> None:
    (tmp_path / "small").write_text("u1 a b c\nu2 a\n")
    names = {name: str(tmp_path / name) for name in ("train", "absent", "small")}
    filled = [option.format(**names) for option in options]
    code, out, err = headrace_train("search", *filled, "--study", tmp_path / "study", "--json")
    assert (code, out) == (2, "")
    assert "Traceback" not in err


@pytest.mark.parametrize("which", ["another model", "no file", "an artifact"])
def test_bad_usage_of_parameters_ends_with_2(
    headrace_train: Any, tmp_path: Path, files: tuple[Path, Path], which: str
) -> None:
    train, test = files
    path = tmp_path / "best.json"
    if which != "no file":
        path.write_text('{"model": "itemknn", "parameters": {"shrink": 1.0}}')
    source = ("--artifact", tmp_path) if which == "an artifact" else ("--train", train)
    model = "graph" if which == "another model" else "auto"
    code, out, _ = headrace_train("evaluate", *source, "--test", test, "--parameters", path, "--model", model, "--json")
    assert (code, out) == (2, "")
