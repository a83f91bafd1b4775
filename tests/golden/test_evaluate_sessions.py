"""`headrace-train evaluate --format sessions`, every clause computed by hand."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

TRAIN = "a b\na b\n\na c\nd\n"
"""Popularity by places: a 3, b 2, c 1, d 1."""

TEST = "a | b\nb a | a\na b | d\n"


@pytest.fixture
def command(headrace_train: Any, tmp_path: Path) -> Any:
    def call(*options: object, train: str = TRAIN, test: str = TEST, ending: str = "txt") -> tuple[int, str, str]:
        arguments = ["evaluate", "--format", "sessions", "--model", "popularity", "--json"]
        for side, text in (("train", train), ("test", test)):
            path = tmp_path / f"{side}.{ending}"
            raw = text.encode("utf-8", "surrogateescape")
            path.write_bytes(gzip.compress(raw) if ending == "txt.gz" else raw)
            arguments += [f"--{side}", str(path)]
        ran: tuple[int, str, str] = headrace_train(*arguments, *options)
        return ran

    return call


@pytest.fixture
def evaluate(command: Any) -> Any:
    def call(*options: object, **files: str) -> dict[str, Any]:
        code, out, err = command(*options, **files)
        assert code == 0, err
        assert out.count("\n") == 1
        report: dict[str, Any] = json.loads(out)
        return report | {"stderr": err}

    return call


def test_prefix_items_are_not_masked(evaluate: Any) -> None:
    # a is in the prefix, and first by popularity
    assert evaluate("--k", 1, test="b a | a\n")["precision@1"] == 1.0


def test_precision_is_the_share_of_lines_with_a_hit_and_hit_rate_is_its_alias(evaluate: Any) -> None:
    report = evaluate("--k", 3)
    # ranking a b c d: b is second, a first, d fourth
    assert report["precision@3"] == report["hit_rate@3"] == pytest.approx(2 / 3)


def test_mrr_is_the_mean_of_1_over_the_rank_and_0_beyond_k(evaluate: Any) -> None:
    assert evaluate("--k", 3)["mrr@3"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert evaluate("--k", 4)["mrr@4"] == pytest.approx((1 / 2 + 1 + 1 / 4) / 3)


def test_a_line_is_what_comes_after_the_items_of_its_prefix(evaluate: Any) -> None:
    report = evaluate("--model", "transitions", "--k", 1, train="a b\nc d\n", test="a | b\nc | d\n")
    assert report["precision@1"] == 1.0


def test_shuffling_the_lines_changes_nothing(evaluate: Any) -> None:
    train = "".join(" ".join(f"i{(row * 7 + step * step) % 40}" for step in range(5)) + "\n" for row in range(300))
    lines = [f"i{n % 40} i{n * n % 40} i{n * 3 % 40} | i{n * 5 % 40}\n" for n in range(100)]
    first = evaluate("--model", "transitions", train=train, test="".join(lines))
    second = evaluate("--model", "transitions", train=train, test="".join(lines[::-1]))
    assert (first["precision@20"], first["mrr@20"]) == (second["precision@20"], second["mrr@20"])


def test_lines_are_counted_and_duplicates_are_lines_of_their_own(evaluate: Any) -> None:
    report = evaluate("--k", 1, test="b | a\nb | a\n\nb | c\n")
    assert report["lines"] == 3
    assert report["precision@1"] == pytest.approx(2 / 3)


def test_an_unseen_target_is_a_miss(evaluate: Any) -> None:
    report = evaluate("--k", 4, test="a | z\na | z\na | a\n")
    assert report["unseen_test_items"] == 1
    assert report["precision@4"] == pytest.approx(1 / 3)


def test_an_empty_or_unknown_prefix_is_answered_by_popularity(evaluate: Any) -> None:
    report = evaluate("--model", "transitions", "--k", 1, test="| a\nz y | a\nz c | b\n")
    assert report["cold_lines"] == 2
    assert report["unseen_prefix_items"] == 3
    assert report["precision@1"] == pytest.approx(2 / 3)


def test_the_catalogue_is_the_items_of_train_one_item_sessions_included(evaluate: Any) -> None:
    assert evaluate()["items"] == 4


def test_every_field_of_the_contract_is_there(evaluate: Any) -> None:
    report = evaluate()
    fields = {"model", "parameters", "lines", "items", "precision@20", "hit_rate@20", "mrr@20", "unseen_test_items"}
    fields |= {"fit_seconds", "select_seconds", "evaluate_seconds", "peak_rss_bytes"}
    assert fields <= set(report)
    assert report["test_files_opened"] == 1


def test_auto_chooses_without_the_test_file_and_opens_it_once_at_the_end(evaluate: Any) -> None:
    train = "".join(f"i{row % 9} i{row % 9 + 1} i{row % 9}\n" for row in range(400))
    first = evaluate("--model", "auto", train=train, test="i1 | i2\n")
    second = evaluate("--model", "auto", train=train, test="i3 i4 | i1\ni2 | i9\n")
    assert first["model"] == second["model"] == "transitions"
    assert first["parameters"] == second["parameters"]
    assert first["selection"] == second["selection"]
    assert first["selection"]["popularity"] < max(first["selection"].values())
    lines = first["stderr"].splitlines()
    fitting = next(number for number, line in enumerate(lines) if line.startswith("fitting"))
    opening = next(number for number, line in enumerate(lines) if "first and only time" in line)
    assert fitting < opening


def test_gz_files_are_read_as_they_are(evaluate: Any) -> None:
    assert evaluate("--k", 3, ending="txt.gz")["precision@3"] == pytest.approx(2 / 3)


BAD = [
    ("test", "a | b\na b\n", "line 2"),
    ("test", "a | b\n\na b |\n", "line 3"),
    ("test", "a | b c\n", "line 1"),
    ("test", "a | b | c\n", "line 1"),
    ("test", "a|b\n", "line 1"),
    ("test", "", "holds no line"),
    ("test", "a | b\n\udcff | a\n", "line 2"),
    ("train", "", "holds no items"),
    ("train", "\n \n", "holds no items"),
]


@pytest.mark.parametrize(("side", "text", "message"), BAD)
def test_bad_files_end_with_2_and_name_the_line(command: Any, side: str, text: str, message: str) -> None:
    code, out, err = command(**{side: text})
    assert (code, out) == (2, "")
    assert f"{side}.txt" in err
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("options", [("--k", 0), ("--seed", -1), ("--model", "graph"), ("--artifact", "x")])
def test_bad_options_end_with_2(command: Any, options: tuple[object, ...]) -> None:
    code, out, err = command(*options)
    assert (code, out) == (2, "")
    assert str(options[0]) in err
