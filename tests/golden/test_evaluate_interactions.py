"""`headrace-train evaluate` on interactions, every clause computed by hand."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TRAIN = "u1 a b\nu2 a b\n\nu3 a c\nu1 a\nu4 d\nu5\n"
"""Popularity by users: a 3, b 2, c 1, d 1. The second line of u1 merges with the first."""

TEST = "u1 c d c\nu2 a z z\nu3\nu9 b\nu5 a\nu1 c\n"
"""u1: T = {c, d}. u2: a is in train, T = {z}, unseen. u3: no test item, skipped. u9 absent from train, u5 without items
there: both cold, T = {b} and {a}."""

DISCOUNT_2 = 1 / math.log2(3)


@pytest.fixture
def evaluate(headrace_train: Any, tmp_path: Path) -> Any:
    def call(*options: object, train: str = TRAIN, test: str = TEST) -> dict[str, Any]:
        (tmp_path / "train.txt").write_text(train)
        (tmp_path / "test.txt").write_text(test)
        files = ("--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt")
        code, out, err = headrace_train("evaluate", *files, "--model", "popularity", "--json", *options)
        assert code == 0, err
        report: dict[str, Any] = json.loads(out)
        return report | {"stderr": err}

    return call


def test_recall_and_ndcg_are_means_over_users_with_test_items(evaluate: Any) -> None:
    report = evaluate("--k", 2)
    # u1: a, b masked → c, d (equal scores, lower index first): both hit, recall 1, ndcg 1
    # u2: T = {z} → 0, 0
    # u9: all ranked, nothing masked → a, b: hit at 2
    # u5: a, b: hit at 1
    assert report["users"] == 4
    assert report["recall@2"] == pytest.approx((1 + 0 + 1 + 1) / 4)
    assert report["ndcg@2"] == pytest.approx((1 + 0 + DISCOUNT_2 + 1) / 4)


def test_recall_divides_by_all_test_items_and_ndcg_by_the_ideal_for_k(evaluate: Any) -> None:
    report = evaluate("--k", 1)
    # u1: c at 1 of T = {c, d}: recall 1/2, ndcg 1 because the ideal has one place only
    assert report["recall@1"] == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert report["ndcg@1"] == pytest.approx((1 + 0 + 0 + 1) / 4)


def test_unseen_items_stay_in_the_denominators(evaluate: Any) -> None:
    report = evaluate("--k", 2, test="u1 c z\n")
    assert report["unseen_test_items"] == 1
    assert report["recall@2"] == pytest.approx(1 / 2)
    assert report["ndcg@2"] == pytest.approx(1 / (1 + DISCOUNT_2))


def test_the_counts(evaluate: Any) -> None:
    report = evaluate("--k", 2)
    assert report["items"] == 4
    assert report["cold_users"] == 2
    assert report["unseen_test_items"] == 1
    assert report["overlap_pairs"] == 1
    assert "1 test pairs are in train too" in report["stderr"]


def test_duplicate_test_pairs_count_once(evaluate: Any) -> None:
    once, twice = evaluate("--k", 2, test="u1 c d\n"), evaluate("--k", 2, test="u1 c c d\nu1 d\n")
    assert once["recall@2"] == twice["recall@2"] == 1.0
    assert once["ndcg@2"] == twice["ndcg@2"] == 1.0


def test_train_items_are_masked_even_when_fewer_than_k_remain(evaluate: Any) -> None:
    report = evaluate("--k", 20, test="u1 d\n")
    # of four items two are masked: d is second of two
    assert report["recall@20"] == 1.0
    assert report["ndcg@20"] == pytest.approx(DISCOUNT_2)


def test_every_field_of_the_contract_is_there_and_metrics_are_fractions(evaluate: Any) -> None:
    report = evaluate("--seed", 3)
    fields = {"model", "parameters", "users", "items", "recall@20", "ndcg@20", "fit_seconds", "select_seconds"}
    fields |= {"evaluate_seconds", "peak_rss_bytes", "cold_users", "unseen_test_items", "overlap_pairs"}
    assert fields <= set(report)
    assert report["model"] == "popularity"
    assert 0 <= report["recall@20"] <= 1
    assert report["peak_rss_bytes"] > 10_000_000


def test_the_test_file_is_opened_once_and_after_the_model_is_frozen(evaluate: Any) -> None:
    report = evaluate()
    assert report["test_files_opened"] == 1
    lines = report["stderr"].splitlines()
    fitting = next(number for number, line in enumerate(lines) if line.startswith("fitting"))
    opening = next(number for number, line in enumerate(lines) if "first and only time" in line)
    assert fitting < opening


def test_the_test_file_does_not_influence_the_model(evaluate: Any) -> None:
    train = "".join(
        f"u{user} " + " ".join(f"i{(user * 7 + step * step) % 40}" for step in range(9)) + "\n" for user in range(60)
    )
    first = evaluate("--model", "auto", train=train, test="u1 i39\n")
    second = evaluate("--model", "auto", train=train, test="u2 i1 i2 i3\nu4 i5\n")
    assert first["parameters"] == second["parameters"]
    assert first["model"] == second["model"]


def test_one_seed_gives_one_answer(evaluate: Any) -> None:
    train = "".join(
        f"u{user} " + " ".join(f"i{(user * 7 + step * step) % 40}" for step in range(9)) + "\n" for user in range(60)
    )
    test = "".join(f"u{user} i{(user * 3) % 40}\n" for user in range(60))
    first, second = (evaluate("--model", "auto", "--seed", 5, train=train, test=test) for _ in range(2))
    for report in (first, second):
        for varying in ("fit_seconds", "select_seconds", "evaluate_seconds", "peak_rss_bytes", "stderr"):
            del report[varying]
    assert first == second


def test_stdout_is_one_json_object_and_gz_files_are_read_as_they_are(headrace_train: Any, tmp_path: Path) -> None:
    for name, text in (("train.txt.gz", TRAIN), ("test.txt.gz", TEST)):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    files = ("--train", tmp_path / "train.txt.gz", "--test", tmp_path / "test.txt.gz")
    code, out, _ = headrace_train("evaluate", *files, "--model", "popularity", "--k", 2, "--json")
    assert code == 0
    assert out.count("\n") == 1
    assert json.loads(out)["recall@2"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_say_the_same_as_adjacency_lines(headrace_train: Any, tmp_path: Path, kind: str) -> None:
    paths = []
    for name, text in (("train", TRAIN), ("test", TEST)):
        pairs = [(line.split()[0], item) for line in text.splitlines() if line for item in line.split()[1:]]
        path = tmp_path / f"{name}.{kind}"
        if kind == "csv":
            path.write_text(
                "weight,item,time,user\n" + "".join(f"2,{item},2020-01-01,{user}\n" for user, item in pairs)
            )
        else:
            pq.write_table(pa.table({"user": [user for user, _ in pairs], "item": [item for _, item in pairs]}), path)
        paths.append(path)
    files = ("--train", paths[0], "--test", paths[1])
    code, out, err = headrace_train("evaluate", *files, "--model", "popularity", "--k", 2, "--json")
    assert code == 0, err
    assert json.loads(out)["recall@2"] == pytest.approx(3 / 4)


BAD = [
    ("user,item\nu1,a\n,b\n", ".csv", "row 2: the user id is empty"),
    ("user,item\nu1,\n", ".csv", "row 1: the item id is empty"),
    ("user,item,weight\nu1,a,nan\n", ".csv", "row 1: weight"),
    ("user,item,weight\nu1,a,1\nu1,b,inf\n", ".csv", "row 2: weight"),
    ("user,item,weight\nu1,a,-1\n", ".csv", "row 1: weight"),
    ("user,item,weight\nu1,a,much\n", ".csv", "row 1: weight"),
    ("user,item,time\nu1,a,yesterday\n", ".csv", "row 1: time"),
    ("user,item\nu1,a,b\n", ".csv", "row 1: 3 fields instead of 2"),
    ("customer,sku\nu1,a\n", ".csv", "user column"),
    ("", ".csv", "is empty"),
    ("user,item\n", ".csv", "holds no"),
    ("", ".txt", "holds no"),
    ("\n \n", ".txt", "holds no"),
    ("u1\nu2\n", ".txt", "holds no"),
    ("u1 a\nu2 \udcff\n", ".txt", "line 2"),
    ("no parquet", ".parquet", "is no Parquet file"),
    ("no gzip", ".txt.gz", "cannot be read"),
]


@pytest.mark.parametrize(("text", "suffix", "message"), BAD)
@pytest.mark.parametrize("side", ["train", "test"])
def test_bad_files_end_with_2_and_say_where(
    headrace_train: Any, tmp_path: Path, side: str, text: str, suffix: str, message: str
) -> None:
    bad = tmp_path / f"bad{suffix}"
    bad.write_bytes(text.encode("utf-8", "surrogateescape"))
    good = tmp_path / "good.txt"
    good.write_text(TRAIN if side == "test" else TEST)
    files = {"--train": bad if side == "train" else good, "--test": bad if side == "test" else good}
    flat = [part for pair in files.items() for part in pair]
    code, out, err = headrace_train("evaluate", *flat, "--model", "popularity", "--json")
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "options",
    [
        ["--train", "{train}"],
        ["--test", "{test}"],
        ["--train", "{train}", "--test", "{absent}"],
        ["--train", "{absent}", "--test", "{test}"],
        ["--train", "{train}", "--test", "{train}", "--model", "popularity"],
        ["--train", "{train}", "--test", "{test}", "--k", "0"],
        ["--train", "{train}", "--test", "{test}", "--k", "many"],
        ["--train", "{train}", "--test", "{test}", "--seed", "-1"],
        ["--train", "{train}", "--test", "{test}", "--model", "magic"],
        ["--train", "{train}", "--test", "{test}", "--format", "sessions"],
        ["--train", "{train}", "--test", "{test}", "--format", "shopping"],
        ["--train", "{train}", "--test", "{test}", "--split-time", "2020-01-01"],
        ["--train", "{train}", "--test", "{test}", "--unheard-of"],
        ["--train", "{train}", "--artifact", "{absent}", "--test", "{test}"],
        ["--artifact", "{absent}", "--test", "{test}"],
        ["--log", "{absent}", "--split-time", "2020-01-01"],
        ["--log", "{absent}"],
        ["--log", "{absent}", "--split-time", "soon"],
    ],
)
def test_bad_usage_ends_with_2_and_an_empty_stdout(headrace_train: Any, tmp_path: Path, options: list[str]) -> None:
    names = {name: str(tmp_path / name) for name in ("train", "test", "absent")}
    Path(names["train"]).write_text(TRAIN)
    Path(names["test"]).write_text(TEST)
    code, out, err = headrace_train("evaluate", *(option.format(**names) for option in options), "--json")
    assert code == 2
    assert out == ""
    assert err


def test_an_unknown_format_is_refused_with_those_there_are(headrace_train: Any) -> None:
    code, _, err = headrace_train("evaluate", "--format", "bags", "--json")
    assert code == 2
    assert "got 'bags', expected interactions, sessions, sequences, baskets" in err


def test_a_score_that_is_not_finite_ends_with_1(
    headrace_train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace_training.models.popularity import PopularityModel

    scores = PopularityModel.scores
    monkeypatch.setattr(PopularityModel, "scores", lambda self, users: scores(self, users) * float("nan"))
    (tmp_path / "train.txt").write_text(TRAIN)
    (tmp_path / "test.txt").write_text(TEST)
    files = ("--train", tmp_path / "train.txt", "--test", tmp_path / "test.txt")
    code, out, err = headrace_train("evaluate", *files, "--model", "popularity", "--json")
    assert code == 1
    assert out == ""
    assert "NaN" in err
