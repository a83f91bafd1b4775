"""`headrace-train evaluate --format sequences`, every clause computed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from headrace_training.sequences import read_people
from headrace_training.validation import hold_out_last

PEOPLE = "u1 a b c d\nu2 a c d b\nu3 a c b e d\nu4 d\nu5\nu6 c a e\n"
"""Without the last two items: u1 a b, u2 a c, u3 a c b, u6 c; so popularity ranks a (3) c (3) b (2) d e."""


@pytest.fixture
def command(headrace_train: Any, tmp_path: Path) -> Any:
    def call(*options: object, people: str = PEOPLE) -> tuple[int, str, str]:
        (tmp_path / "people.txt").write_text(people)
        arguments = ["evaluate", "--format", "sequences", "--train", tmp_path / "people.txt", "--json", *options]
        ran: tuple[int, str, str] = headrace_train(*arguments)
        return ran

    return call


@pytest.fixture
def evaluate(command: Any) -> Any:
    def call(*options: object, people: str = PEOPLE) -> dict[str, Any]:
        code, out, err = command("--model", "popularity", *options, people=people)
        assert code == 0, err
        report: dict[str, Any] = json.loads(out)
        return report | {"stderr": err}

    return call


def test_the_last_item_is_looked_for_with_all_before_it_masked(evaluate: Any) -> None:
    # u1 has a b c: d first. u2 has a c d: b first. u3 has a b c e: d is all that is left. u6 has a c: b d e.
    report = evaluate("--k", 1)
    assert report["hit_rate@1"] == pytest.approx(3 / 5)


def test_hit_rate_and_ndcg_are_means_over_people_with_items(evaluate: Any) -> None:
    # u6: e is third, 1 / log2(4). u4 has no history: a c b d, fourth.
    report = evaluate("--k", 3)
    assert report["users"] == 5
    assert report["hit_rate@3"] == pytest.approx(4 / 5)
    assert report["ndcg@3"] == pytest.approx((3 + 1 / 2) / 5)
    assert evaluate("--k", 4)["ndcg@4"] == pytest.approx((3 + 1 / 2 + 1 / math.log2(5)) / 5)


def test_the_model_learns_from_all_but_the_last_two(evaluate: Any) -> None:
    # learnt are x y, x y, q z and twice x y z. The last two people are left with p and q, of which q was learnt from;
    # with the last items but one learnt too p and q would be equal, and p the lower. The others get z, z and x first.
    people = "u1 x y p r\nu2 x y q p\nu3 q z p r\nu8 x y z r q\nu9 x y z r q\n"
    assert evaluate("--k", 1, people=people)["hit_rate@1"] == 2 / 5


def test_the_last_but_one_is_validated_on(tmp_path: Path) -> None:
    (tmp_path / "people.txt").write_text(PEOPLE)
    people = read_people(tmp_path / "people.txt")[1]
    questions = hold_out_last(people, people.without_last(2), 10, 0).questions
    prefixes = [questions.prefixes.items[start:stop] for start, stop in zip(*_bounds(questions), strict=True)]
    ids = people.item_ids
    assert ["".join(ids[item] for item in prefix) for prefix in prefixes] == ["ab", "ac", "acb", "c"]
    assert [ids[item] for item in questions.targets] == ["c", "d", "e", "a"]


def _bounds(questions: Any) -> tuple[Any, Any]:
    return questions.prefixes.indptr[:-1], questions.prefixes.indptr[1:]


def test_all_items_of_the_file_are_ranked(evaluate: Any) -> None:
    report = evaluate()
    assert report["items"] == 5
    assert report["unseen_test_items"] == 0


def test_a_last_item_that_was_there_before_is_masked_so_a_miss(evaluate: Any) -> None:
    report = evaluate("--k", 5, people="u1 a b c a\nu2 a b c d\n")
    assert report["overlap_pairs"] == 1
    assert report["hit_rate@5"] == 1 / 2
    assert "1 last items are among" in report["stderr"]


def test_a_person_without_history_is_ranked_by_popularity(evaluate: Any) -> None:
    assert evaluate("--model", "transitions", "--k", 4)["cold_users"] == 1


def test_further_lines_of_a_person_continue_the_first(evaluate: Any) -> None:
    parted = evaluate("--k", 3, people="u1 a b\nu2 a c d b\nu1 c d\nu3 a c b e d\nu4 d\nu6 c a e\n")
    whole = evaluate("--k", 3)
    assert (parted["users"], parted["ndcg@3"]) == (whole["users"], whole["ndcg@3"])


def test_every_field_of_the_contract_is_there(evaluate: Any) -> None:
    fields = {"model", "parameters", "users", "items", "hit_rate@20", "ndcg@20", "fit_seconds", "select_seconds"}
    assert fields | {"evaluate_seconds", "peak_rss_bytes", "cold_users", "unseen_test_items"} <= set(evaluate())


@pytest.mark.parametrize(
    ("options", "message"),
    [(("--test", "x"), "--test"), (("--log", "x"), "--log"), (("--split-time", "2020-01-01"), "--split-time")],
)
def test_other_inputs_are_refused(command: Any, options: tuple[str, str], message: str) -> None:
    code, out, err = command(*options)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("people", ["", "\n", "u1\nu2\n"])
def test_a_file_without_items_ends_with_2(command: Any, people: str) -> None:
    code, out, err = command(people=people)
    assert (code, out) == (2, "")
    assert "holds no items" in err
