"""`headrace-train compare`: better, worse or neither, how sure, for whom; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.errors import DataError
from headrace_training.compare import compare_runs
from headrace_training.metrics import Catalogue, Outcome
from headrace_training.results import complete, digest_of, load_run

N_ITEMS = 30
UNITS = {"interactions": "users", "sessions": "lines", "sequences": "users", "baskets": "users"}


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plots take their time and are tested elsewhere."""
    monkeypatch.setattr("headrace_training.report._can_write", lambda: False)


def save(
    folder: Path, hit_rate: Any, *, n: int = 400, seed: int = 0, format: str = "interactions", **changes: Any
) -> Path:
    """A run of ``n`` lines with one target each, found first with a probability that may be given by line."""
    rng = np.random.default_rng(seed)
    targets = np.arange(n) % N_ITEMS
    hit = rng.random(n) < hit_rate
    ranked = np.where(hit, targets, (targets + 1) % N_ITEMS).astype(np.int32)[:, None]
    names = [f"user {line}" for line in range(n)]
    known = np.zeros((n, N_ITEMS), dtype=np.float32)
    known[np.arange(n) < n // 2, :3] = 1
    known[np.arange(n) >= n // 2, :9] = 1
    fields: dict[str, Any] = {
        "unit": UNITS[format],
        "names": names,
        "ranked": ranked,
        "relevant": sp.csr_matrix((np.ones(n), (np.arange(n), targets)), shape=(n, N_ITEMS)),
        "history": sp.csr_matrix(known),
        "accuracy": {"recall@1": hit.astype(float)},
        "digest": digest_of(f"{name}\t{item}" for name, item in zip(names, targets, strict=True)),
    }
    taken = sp.csr_matrix((rng.random((50, N_ITEMS)) < 0.3).astype(np.float32))
    catalogue = Catalogue(item_ids=[f"item {item}" for item in range(N_ITEMS)], taken=taken)
    report = {"model": "made", "parameters": {}, UNITS[format]: n}
    complete(report, Outcome(**(fields | changes)), catalogue, format=format, seed=0, save=folder)
    return folder


def test_a_run_compared_with_itself_shows_no_difference(tmp_path: Path) -> None:
    path = save(tmp_path / "a", 0.3)
    found = compare_runs(path, path)
    assert found["verdict"] == "no difference"
    row = found["metrics"]["recall@1"]
    assert (row["difference"], row["interval"], row["p_value"], row["probability_better"]) == (
        0.0,
        [0.0, 0.0],
        1.0,
        0.5,
    )


@pytest.mark.parametrize("format", list(UNITS))
def test_a_better_run_is_called_better_and_the_other_way_round_worse(tmp_path: Path, format: str) -> None:
    low, high = (save(tmp_path / name, rate, seed=1, format=format) for name, rate in (("a", 0.2), ("b", 0.4)))
    there, back = compare_runs(low, high), compare_runs(high, low)
    assert (there["verdict"], back["verdict"]) == ("better", "worse")
    row = there["metrics"]["recall@1"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["interval"][0] < row["difference"] < row["interval"][1]
    assert row["p_value"] < 0.001
    assert row["probability_better"] > 0.999
    assert there[UNITS[format]] == 400
    json.dumps(there, allow_nan=False)


def test_it_says_for_whom(tmp_path: Path) -> None:
    """The second run is better for the half of the users of whom more is known, and only for them."""
    n = 2000
    a = save(tmp_path / "a", 0.3, n=n, seed=1)
    b = save(tmp_path / "b", np.where(np.arange(n) < n // 2, 0.3, 0.5), n=n, seed=1)
    few, many = compare_runs(a, b)["slices"]["activity"]
    assert (few["from"], few["verdict"]) == (3, "no difference")
    assert (many["from"], many["verdict"]) == (9, "better")


def test_it_says_for_which_items(tmp_path: Path) -> None:
    n = 3000
    a = save(tmp_path / "a", 0.3, n=n, seed=1)
    run_a = load_run(a)
    popular = np.zeros(n, dtype=bool)
    popular[run_a.targets["line"]] = run_a.targets["popularity"] >= np.quantile(run_a.targets["popularity"], 0.8)
    b = save(tmp_path / "b", np.where(popular, 0.6, 0.3), n=n, seed=1)
    rare, *_, most = compare_runs(a, b)["slices"]["item_popularity"]
    assert (rare["verdict"], most["verdict"]) == ("no difference", "better")


def test_pairs_are_found_by_name_whatever_their_order(tmp_path: Path) -> None:
    a = save(tmp_path / "a", 0.3, n=40, seed=1)
    saved = load_run(a)
    order = np.random.default_rng(0).permutation(40)
    targets = np.arange(40) % N_ITEMS
    b = save(
        tmp_path / "b",
        0.3,
        n=40,
        names=saved.names[order].tolist(),
        ranked=np.where(saved.accuracy["recall@1"] > 0, targets, (targets + 1) % N_ITEMS)[order].astype(np.int32)[
            :, None
        ],
        relevant=sp.csr_matrix((np.ones(40), (np.arange(40), targets[order])), shape=(40, N_ITEMS)),
        accuracy={"recall@1": saved.accuracy["recall@1"][order]},
    )
    found = compare_runs(a, b)
    assert found["metrics"]["recall@1"]["interval"] == [0.0, 0.0]
    assert all(row["metrics"]["recall@1"]["interval"] == [0.0, 0.0] for row in found["slices"]["item_popularity"])


def test_one_line_is_never_enough(tmp_path: Path) -> None:
    found = compare_runs(save(tmp_path / "a", 0.0, n=1), save(tmp_path / "b", 1.0, n=1))
    assert found["metrics"]["recall@1"]["difference"] == 1.0
    assert found["verdict"] == "no difference"
    json.dumps(found, allow_nan=False)


def test_runs_without_any_target_in_the_catalogue(tmp_path: Path) -> None:
    nothing = sp.csr_matrix((400, N_ITEMS), dtype=np.float32)
    a, b = (save(tmp_path / name, 0.0, relevant=nothing) for name in "ab")
    assert compare_runs(a, b)["slices"]["item_popularity"] == []


DIFFERENT = {
    "another test file": ({"digest": "f" * 64}, "different test sets"),
    "another format": ({"format": "baskets"}, "different formats"),
    "other lines": ({"names": [f"guest {line}" for line in range(400)]}, "different lines"),
    "other metrics": ({"accuracy": {"mrr@1": np.zeros(400)}}, "different metrics"),
    "another k": ({"ranked": np.zeros((400, 2), dtype=np.int32)}, "different lengths"),
}


@pytest.mark.parametrize("what", list(DIFFERENT))
def test_runs_that_are_no_pair_are_refused(headrace_train: Any, tmp_path: Path, what: str) -> None:
    changes, message = DIFFERENT[what]
    a, b = save(tmp_path / "a", 0.3), save(tmp_path / "b", 0.3, **changes)
    code, out, err = headrace_train("compare", a, b, "--json")
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


def damage(path: Path, what: str) -> None:
    if what == "no run":
        (path / "run.json").unlink()
    elif what == "no JSON":
        (path / "run.json").write_text("{")
    elif what == "a list":
        (path / "run.json").write_text("[]")
    elif what == "a later version":
        (path / "run.json").write_text('{"format_version": 9}')
    elif what == "no digest":
        (path / "run.json").write_text('{"format_version": 1, "format": "interactions", "k": 1, "model": "x"}')
    elif what == "half a file":
        whole = (path / "lines.parquet").read_bytes()
        (path / "lines.parquet").write_bytes(whole[: len(whole) // 2])
    else:
        (path / "targets.parquet").unlink()


@pytest.mark.parametrize(
    "what", ["no run", "no JSON", "a list", "a later version", "no digest", "half a file", "no targets"]
)
def test_a_damaged_run_is_named(tmp_path: Path, what: str) -> None:
    path = save(tmp_path / "a", 0.3)
    damage(path, what)
    with pytest.raises(DataError, match="a"):
        load_run(path)


def test_the_text_for_people(headrace_train: Any, tmp_path: Path) -> None:
    a, b = save(tmp_path / "a", 0.2, seed=1), save(tmp_path / "b", 0.5, seed=1)
    code, out, _ = headrace_train("compare", a, b / "run.json")
    assert code == 0
    assert out.startswith("B is better than A (400 users)\n")
    assert "by item popularity:" in out


def test_json_is_one_object_and_seeded(headrace_train: Any, tmp_path: Path) -> None:
    a, b = save(tmp_path / "a", 0.2, seed=1), save(tmp_path / "b", 0.25, seed=2)
    first, second = (headrace_train("compare", a, b, "--seed", 3, "--json")[1] for _ in range(2))
    assert first == second
    assert first.count("\n") == 1
    assert json.loads(first)["metrics"]["recall@1"]["p_value"] > 0


def test_saved_lines_keep_what_the_report_says(tmp_path: Path) -> None:
    saved = load_run(save(tmp_path / "a", 0.3))
    assert saved.accuracy["recall@1"].mean() == pytest.approx(np.mean(saved.targets["rank"] > 0))
    assert saved.report["intervals"]["recall@1"][0] < saved.accuracy["recall@1"].mean()
    assert not list((tmp_path / "a").glob(".*"))


def write_formats(folder: Path) -> dict[str, list[str]]:
    """Options of `evaluate` for a small data set in each format."""
    rng = np.random.default_rng(0)
    rows = [[f"i{(row % 4) * 6 + item}" for item in rng.integers(6, size=6)] for row in range(80)]
    people = "".join(f"u{n} {' '.join(row)}\n" for n, row in enumerate(rows))
    history = {f"u{n}": [[-1], row[:2], row[2:4], [-1]] for n, row in enumerate(rows)}
    texts = {
        "people": people,
        "more": "".join(f"u{n} {' '.join(f'i{(n % 4) * 6 + item}' for item in range(6))}\n" for n in range(80)),
        "sessions": "".join(f"{' '.join(row)}\n" for row in rows),
        "lines": "".join(f"{row[0]} {row[1]} | {row[2]}\n" for row in rows),
        "history.json": json.dumps(history),
        "future.json": json.dumps({f"u{n}": [[-1], row[4:], [-1]] for n, row in enumerate(rows)}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    files = {
        "interactions": ("people", "more"),
        "sessions": ("sessions", "lines"),
        "sequences": ("people", ""),
        "baskets": ("history.json", "future.json"),
    }
    return {
        format: ["--format", format, "--train", str(folder / train), *(["--test", str(folder / test)] if test else [])]
        for format, (train, test) in files.items()
    }


MODELS = {
    "interactions": ("popularity", "itemknn"),
    "sessions": ("popularity", "transitions"),
    "sequences": ("popularity", "transitions"),
    "baskets": ("g-topfreq", "p-topfreq"),
}


@pytest.mark.parametrize("format", list(MODELS))
def test_every_format_saves_runs_that_can_be_compared(headrace_train: Any, tmp_path: Path, format: str) -> None:
    options = write_formats(tmp_path)[format]
    reports = []
    for name, model in zip("ab", MODELS[format], strict=True):
        save_to = ["--model", model, "--k", "5", "--save", str(tmp_path / "runs" / name), "--json"]
        code, out, err = headrace_train("evaluate", *options, *save_to)
        assert code == 0, err
        reports.append(json.loads(out))
    assert [report["test_openings"] for report in reports] == [1, 2]
    code, out, err = headrace_train("compare", tmp_path / "runs" / "a", tmp_path / "runs" / "b", "--json")
    assert code == 0, err
    found = json.loads(out)
    for name, row in found["metrics"].items():
        assert (row["a"], row["b"]) == pytest.approx((reports[0][name], reports[1][name]))
    assert found["verdict"] == "better"
    assert sum(group[UNITS[format]] for group in found["slices"]["activity"]) == found[UNITS[format]] >= 70
