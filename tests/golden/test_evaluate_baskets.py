"""`headrace-train evaluate --format baskets`, every clause computed by hand."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

HISTORY = {
    "u1": [[-1], ["a", "b"], ["a", "c"], [-1]],
    "u2": [[-1], ["b"], ["b", "c"], [-1]],
    "u3": [[-1], ["d"], [-1]],
    "u4": [[-1], [-1]],
}
"""Baskets with each item: b 3, a 2, c 2, d 1. In order of everybody's frequency, equal ones by index: b, a, c, d."""

FUTURE = {
    "u1": [[-1], ["c", "d"], [-1]],
    "u2": [[-1], ["b", "z", "b"], [-1]],
    "u3": [[-1], [-1]],
    "u4": [[-1], ["a"], [-1]],
    "u9": [[-1], ["b"], [-1]],
}
"""u1: T = {c, d}. u2: T = {b, z}, z unseen. u3 has no future basket. u4 has no basket in the history and u9 is not in
it: both cold, T = {a} and {b}."""

DISCOUNT_2 = 1 / math.log2(3)
DISCOUNT_3 = 1 / math.log2(4)


@pytest.fixture
def evaluate(headrace_train: Any, tmp_path: Path) -> Any:
    def call(*options: object, history: Any = HISTORY, future: Any = FUTURE, model: str = "gp-topfreq") -> Any:
        (tmp_path / "history.json").write_text(json.dumps(history))
        (tmp_path / "future.json.gz").write_bytes(gzip.compress(json.dumps(future).encode()))
        files = ("--train", tmp_path / "history.json", "--test", tmp_path / "future.json.gz")
        arguments = ("evaluate", "--format", "baskets", *files, "--model", model, "--json", *options)
        code, out, err = headrace_train(*arguments)
        assert code == 0, err
        return json.loads(out) | {"stderr": err}

    return call


def test_the_pair_of_history_and_future_is_measured_over_all_people_with_a_future_basket(evaluate: Any) -> None:
    report = evaluate("--k", 2)
    # u1: own a 2, b 1, c 1 (b before c: more often by all) → a, b of T = {c, d}: 0
    # u2: own b 2, c 1 → b, c of T = {b, z}: recall 1/2, ndcg 1 / (1 + DISCOUNT_2)
    # u4, u9: everybody's b, a → T = {a}: recall 1, ndcg DISCOUNT_2; T = {b}: 1, 1
    assert report["users"] == 4
    assert report["recall@2"] == pytest.approx((0 + 1 / 2 + 1 + 1) / 4)
    assert report["ndcg@2"] == pytest.approx((0 + 1 / (1 + DISCOUNT_2) + DISCOUNT_2 + 1) / 4)


def test_repeats_are_allowed(evaluate: Any) -> None:
    # b is in both baskets of u2 and ranks first
    report = evaluate("--k", 1, future={"u2": [["b"]]})
    assert report["recall@1"] == report["ndcg@1"] == 1.0
    assert report["repeat_pairs"] == 1
    assert report["overlap_pairs"] == 0


def test_the_sentinel_is_no_item(evaluate: Any) -> None:
    plain = {user: [basket for basket in baskets if basket != [-1]] for user, baskets in HISTORY.items()}
    marked, unmarked = evaluate("--k", 3), evaluate("--k", 3, history=plain)
    assert marked["items"] == unmarked["items"] == 4
    assert marked["recall@3"] == unmarked["recall@3"]


def test_recall_divides_by_all_items_of_the_basket_and_ndcg_by_the_ideal_for_k(evaluate: Any) -> None:
    report = evaluate("--k", 3, future={"u1": [["c", "d"]]})
    # a, b, c: one of two, at 3
    assert report["recall@3"] == pytest.approx(1 / 2)
    assert report["ndcg@3"] == pytest.approx(DISCOUNT_3 / (1 + DISCOUNT_2))
    assert evaluate("--k", 1, future={"u1": [["a", "d"]]})["ndcg@1"] == 1.0


def test_unseen_items_stay_in_the_denominators(evaluate: Any) -> None:
    report = evaluate("--k", 2, future={"u2": [["b", "z", "y"]]})
    assert report["unseen_test_items"] == 2
    assert report["recall@2"] == pytest.approx(1 / 3)


def test_an_item_several_times_in_a_basket_counts_once(evaluate: Any) -> None:
    # b twice in the future; d three times in one basket of the history is one basket with d
    history = HISTORY | {"u3": [["d", "d", "d"]]}
    assert evaluate("--k", 2, history=history)["recall@2"] == evaluate("--k", 2)["recall@2"]


def test_people_without_history_are_ranked_by_everybodys_frequency(evaluate: Any) -> None:
    report = evaluate("--k", 2, future={"u4": [["a"]], "u9": [["b"]]}, model="p-topfreq")
    assert report["cold_users"] == 2
    assert report["recall@2"] == 1.0
    assert report["ndcg@2"] == pytest.approx((DISCOUNT_2 + 1) / 2)


def test_only_the_next_basket_is_looked_for(evaluate: Any) -> None:
    report = evaluate("--k", 1, future={"u2": [["c"], ["b"]]})
    assert report["recall@1"] == 0.0
    assert report["later_baskets"] == 1


def test_the_baselines_are_measured_in_the_same_run(evaluate: Any) -> None:
    report = evaluate("--k", 2, future={"u3": [["b", "d"]]})
    # everybody's: b, a. Own: d alone. Own, then everybody's: d, b
    assert report["baselines"]["g-topfreq"]["recall@2"] == pytest.approx(1 / 2)
    assert report["baselines"]["p-topfreq"]["recall@2"] == pytest.approx(1 / 2)
    assert report["baselines"]["gp-topfreq"] == {"recall@2": 1.0, "ndcg@2": 1.0}
    assert report["recall@2"] == 1.0


def test_every_field_of_the_contract_is_there_and_metrics_are_fractions(evaluate: Any) -> None:
    report = evaluate(model="auto")
    fields = {"model", "parameters", "users", "items", "recall@20", "ndcg@20", "fit_seconds", "select_seconds"}
    fields |= {"evaluate_seconds", "peak_rss_bytes", "cold_users", "unseen_test_items", "overlap_pairs"}
    assert fields <= set(report)
    assert 0 <= report["recall@20"] <= 1
    assert report["test_files_opened"] == 1
    lines = report["stderr"].splitlines()
    fitting = next(number for number, line in enumerate(lines) if line.startswith("fitting"))
    opening = next(number for number, line in enumerate(lines) if "first and only time" in line)
    assert fitting < opening


def test_auto_selects_without_the_future_and_twice_alike(evaluate: Any) -> None:
    # everybody takes their own two items by turns: the own rhythm foretells what frequency cannot
    history = {
        f"u{user}": [[f"i{(user + turn % 2 * 7) % 30}", f"j{user % 3}"] for turn in range(5)] for user in range(60)
    }
    first = evaluate("--k", 1, history=history, future={"u1": [["i8"]]}, model="auto")
    again = evaluate("--k", 1, history=history, future={"u2": [["i2"], ["i3"]]}, model="auto")
    assert first["model"] == again["model"]
    assert first["parameters"] == again["parameters"]
