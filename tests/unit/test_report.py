"""The HTML reports: whole, without scripts and requests, with every name as text."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from headrace import page
from headrace.events.log import NewEvent
from headrace.page import Section, write_page
from headrace.plots import bars, curves, points
from headrace_training.ingest import open_log
from headrace_training.metrics import Catalogue, Outcome
from headrace_training.report import lorenz, report_search
from headrace_training.results import complete
from headrace_training.search import Problem, Trial
from headrace_training.space import Real

HOSTILE = [
    '<script>alert("x")</script>',
    "</td></svg><img src=http://evil.example/x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %}",
    "$\\frac{1}{0}$ & \x00\x1b \ud800 \u202e",
    "紅茶 ☕ &amp; _hidden",
]


class Seen(HTMLParser):
    """What a browser would make of a page: its tags, what it would fetch, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "action", "data") and not (value or "").startswith("#"):
                self.fetched.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_data(self, data: str) -> None:
        self.text += data


def check(path: Path) -> Seen:
    text = path.read_text("utf-8")
    seen = Seen(text)
    assert seen.tags.count("html") == seen.tags.count("body") == 1
    assert text.rstrip().endswith("</html>")
    assert not {"script", "img", "iframe", "link", "object", "base", "form"} & set(seen.tags)
    assert seen.fetched == []
    assert seen.handlers == []
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text
    return seen


def save_hostile(folder: Path) -> Path:
    """A run whose model, items, parameters and lines all have hostile names."""
    ids = [HOSTILE[item % len(HOSTILE)] + str(item) for item in range(8)]
    ranked = np.random.default_rng(0).permuted(np.tile(np.arange(8, dtype=np.int32), (20, 1)), axis=1)[:, :3]
    relevant = sp.csr_matrix((np.ones(20), (np.arange(20), np.arange(20) % 8)), shape=(20, 8))
    history = sp.csr_matrix((np.random.default_rng(1).random((20, 8)) < 0.3).astype(np.float32))
    outcome = Outcome(
        unit="users",
        names=[f"{HOSTILE[0]} {line}" for line in range(20)],
        ranked=ranked,
        relevant=relevant,
        history=history,
        accuracy={"recall@3": np.linspace(0, 1, 20)},
        digest="d",
    )
    report = {
        "model": HOSTILE[1],
        "parameters": {HOSTILE[0]: 1.0, "graph weight": 0.5, "ials weight": 2},
        "selection": dict.fromkeys(HOSTILE, 0.1),
        "curves": {"loss": [3.0, 2.0, 1.5]},
        "recall@3": 0.5,
        "users": 20,
    }
    ids = [name.encode("utf-8", "replace").decode() for name in ids]
    catalogue = Catalogue(item_ids=ids, taken=history, age_days=np.arange(8, dtype=np.float64))
    complete(report, outcome, catalogue, format="interactions", seed=0, save=folder)
    return folder / "report.html"


def test_the_report_of_an_evaluation_holds_every_plot_and_escapes_every_name(tmp_path: Path) -> None:
    seen = check(save_hostile(tmp_path))
    for heading in ("Accuracy", "By activity", "By item popularity", "By item age days", "Coverage", "Blend weights"):
        assert heading in seen.text
    assert "Loss by epoch" in seen.text
    assert "What was tried" in seen.text
    assert seen.tags.count("svg") == 8
    assert '<script>alert("x")</script>' in seen.text
    assert "{{ 7 * 7 }}" in seen.text
    assert "$\\frac{1}{0}$" in seen.text


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_opens_it_and_runs_nothing(tmp_path: Path) -> None:
    path = save_hostile(tmp_path / "run")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        ["chromium", *options, path.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    shown = Seen(done.stdout)
    assert shown.tags.count("svg") == 8
    assert not {"script", "img"} & set(shown.tags)


def test_the_report_of_a_search(tmp_path: Path) -> None:
    spaces = {HOSTILE[0]: {"x": Real(0.1, 1.0, log=True), "weight": Real(0.0, 1.0)}, "other": {"y": Real(0.0, 1.0)}}
    trials = [Trial(HOSTILE[0], {"x": 0.1 * n, "weight": 0.5}, None if n == 3 else n / 10, n / 7) for n in range(1, 8)]
    problem = Problem("interactions", "recall@20", "d", spaces, {}, lambda model, parameters: 0.0)
    report_search(tmp_path, problem, trials, trials[-1])
    seen = check(tmp_path / "report.html")
    assert "7, 1 of them failed." in seen.text
    for heading in ("The best so far, by time", "Recall against time", "Blend weights", "The best trials"):
        assert heading in seen.text
    assert seen.tags.count("svg") == 3 + 2 + 1


def test_fit_writes_a_report_beside_the_versions(headrace_train: Any, tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", create=True)
    start, rng = 1_700_000_000_000, np.random.default_rng(0)
    for day in range(40):
        now_ms, items = start + day * 86_400_000, [f"{HOSTILE[0]}{item}" for item in rng.integers(9, size=12)]
        log.append([NewEvent(f"{day}-{n}", f"u{n}", "", 3, item, now_ms + n) for n, item in enumerate(items)])
    log.store.close()
    arguments = ("fit", "--log", tmp_path / "log", "--store", tmp_path / "store", "--version", "v1", "--n-factors", 4)
    code, out, err = headrace_train(*arguments, "--alpha", 2, "--json")
    assert code == 0, err
    path = tmp_path / "store" / "reports" / "v1.html"
    assert str(path) in out
    seen = check(path)
    headings = ("Accuracy and coverage", "What was tried", "Blend weights", "Calibration, measured", "learned")
    for heading in (*headings, "Loss by epoch") if find_spec("headrace._native") else headings:
        assert heading in seen.text


def test_one_run_gives_one_file(tmp_path: Path) -> None:
    first, second = (save_hostile(tmp_path / name).read_bytes() for name in "ab")
    assert first == second


def test_plots_take_what_is_at_the_edge(tmp_path: Path) -> None:
    plots = [
        curves("x", "y", {}),
        curves("x", "y", {"empty": ([], [])}, diagonal=True),
        curves("x", "y", {"one": ([1.0], [1.0])}, steps=True),
        points("x", "y", {"all alike": ([0.5, 0.5], [0.1, 0.1])}, log=True),
        bars("x", ["", "_"], [0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]),
        bars("x", [], []),
    ]
    write_page(tmp_path / "page.html", HOSTILE[3], [Section(HOSTILE[0], HOSTILE[1], plots, ("a",), [[HOSTILE[3]]])])
    assert check(tmp_path / "page.html").tags.count("svg") == len(plots)


def test_without_the_packages_there_is_a_word_and_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None)
    path = save_hostile(tmp_path)
    assert not path.exists()
    assert "headrace[train]" in capsys.readouterr().err


def test_the_command_line_starts_without_them() -> None:
    code = "import sys, headrace_training.cli; print({'matplotlib', 'jinja2', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_lorenz_by_hand() -> None:
    x, y = lorenz(np.array([3, 1, 0, 0]))
    assert (x[0], y[0], x[-1], y[-1]) == (0.0, 0.0, 1.0, 1.0)
    assert y[50] == 0.0
    assert y[75] == pytest.approx(0.25)
    assert lorenz(np.zeros(3, dtype=np.int64))[1] == [0.0] * 101


def test_a_dollar_in_a_name_is_a_dollar() -> None:
    assert "$\\frac{1}{0}$</text>" in bars("x", ["$\\frac{1}{0}$"], [1.0])
