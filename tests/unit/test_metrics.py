"""What stands beside accuracy in a report: by hand, by plain twins, and on inputs at the edges."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from headrace_training.commands.output import put
from headrace_training.intervals import bootstrap_means, interval, sign_flip_p
from headrace_training.metrics import (
    Catalogue,
    Outcome,
    Targets,
    gini,
    item_age_days,
    list_diversity,
    list_means,
    quantile_groups,
    self_information,
    summarize,
    unit_rows,
)


def csr(rows: list[list[int]]) -> sp.csr_matrix:
    return sp.csr_matrix(np.array(rows, dtype=np.float32))


TAKEN = csr([[1, 1, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]])
"""Four people: item 0 was taken by all, 1 by two, 2 by one, 3 by nobody."""


def make(**changes: Any) -> tuple[Outcome, Catalogue]:
    fields: dict[str, Any] = {
        "unit": "users",
        "names": ["ann", "bob", "eve"],
        "ranked": np.array([[0, 1], [2, 0], [0, -1]], dtype=np.int32),
        "relevant": csr([[0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]),
        "history": csr([[0, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]),
        "accuracy": {"recall@2": np.array([1.0, 0.5, 0.0])},
        "digest": "0",
    }
    return Outcome(**(fields | changes)), Catalogue(item_ids=list("abcd"), taken=TAKEN)


def test_every_figure_by_hand() -> None:
    found = summarize(*make(), seed=0)
    assert found["coverage@2"] == 3 / 4
    # shown 3, 1, 1, 0 times: ascending 0, 1, 1, 3
    assert found["gini@2"] == pytest.approx(2 * (2 * 1 + 3 * 1 + 4 * 3) / (4 * 5) - 5 / 4)
    # information over log2(4): item 0 has 0, item 1 has 1/2, item 2 has 1
    assert found["novelty@2"] == pytest.approx(((0 + 0.5) / 2 + (1 + 0) / 2 + 0) / 3)
    # cosines: 0-1 is 2/sqrt(4*2), 0-2 is 1/sqrt(4*1); a list of one item has no pair
    assert found["diversity@2"] == pytest.approx(1 - (2 / math.sqrt(8) + 1 / 2) / 2)
    assert found["recommended_popularity@2"] == pytest.approx(((1 + 0.5) / 2 + (0.25 + 1) / 2 + 1) / 3)
    assert found["profile_popularity"] == pytest.approx((0.25 + (1 + 0.5) / 2) / 2)


def test_the_slices_by_hand() -> None:
    outcome, catalogue = make()
    catalogue = Catalogue(item_ids=list("abcd"), taken=TAKEN, age_days=np.array([9.0, 5.0, 5.0, 0.0]))
    found = summarize(outcome, catalogue, seed=0)["slices"]
    assert [(row["from"], row["to"], row["users"], row["recall@2"]) for row in found["activity"]] == [
        (0, 0, 1, 0.0),
        (1, 1, 1, 1.0),
        (2, 2, 1, 0.5),
    ]
    # ann looked for b, found; bob for c, found, and d, not found
    assert [(row["from"], row["targets"], row["recall@2"]) for row in found["item_popularity"]] == [
        (0, 1, 0.0),
        (1, 1, 1.0),
        (2, 1, 1.0),
    ]
    assert [
        (row["from"], row["to"], row["users"], row["targets"], row["recall@2"]) for row in found["item_age_days"]
    ] == [
        (0.0, 0.0, 1, 1, 0.0),
        (5.0, 5.0, 2, 2, 1.0),
    ]


def test_the_order_of_the_lines_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    n, n_items = 1500, 60
    taken, history, relevant = (sp.csr_matrix((rng.random((n, n_items)) < 0.1).astype(np.float32)) for _ in range(3))
    ranked = rng.permuted(np.tile(np.arange(n_items, dtype=np.int32), (n, 1)), axis=1)[:, :5]
    accuracy = {"recall@5": rng.random(n), "ndcg@5": rng.random(n)}
    catalogue = Catalogue(item_ids=[str(item) for item in range(n_items)], taken=taken, age_days=rng.random(n_items))
    found = []
    for order in (np.arange(n), rng.permutation(n)):
        outcome = make(
            names=[str(line) for line in order],
            ranked=ranked[order],
            relevant=relevant[order],
            history=history[order],
            accuracy={name: values[order] for name, values in accuracy.items()},
        )[0]
        found.append(summarize(outcome, catalogue, seed=0))
    assert found[0] == found[1]


def test_targets_know_their_ranks() -> None:
    targets = Targets.of(make()[0])
    assert targets.lines.tolist() == [0, 1, 1]
    assert targets.items.tolist() == [1, 2, 3]
    assert targets.ranks.tolist() == [2, 1, 0]


NOTHING = np.full((3, 2), -1, dtype=np.int32)


@pytest.mark.parametrize(
    "changes",
    [
        {"ranked": NOTHING},
        {"relevant": sp.csr_matrix((3, 4), dtype=np.float32)},
        {"history": sp.csr_matrix((3, 4), dtype=np.float32)},
        {"accuracy": {"recall@2": np.zeros(3)}},
        {"ranked": NOTHING[:, :1]},
    ],
)
def test_no_input_at_the_edge_gives_what_json_has_not(changes: dict[str, Any]) -> None:
    outcome, catalogue = make(**changes)
    found = summarize(outcome, catalogue, seed=0)
    json.dumps(found, allow_nan=False)
    assert all(0 <= value <= 1 for value in found.values() if isinstance(value, float))


@pytest.mark.parametrize("taken", [csr([[1, 1, 1, 1]]), sp.csr_matrix((2, 4), dtype=np.float32)])
def test_one_person_or_none_in_train(taken: sp.csr_matrix) -> None:
    json.dumps(summarize(make()[0], Catalogue(item_ids=list("abcd"), taken=taken), seed=0), allow_nan=False)


def test_diversity_equals_the_pairs_one_by_one() -> None:
    rng = np.random.default_rng(3)
    taken = sp.csr_matrix((rng.random((40, 25)) < 0.2).astype(np.float32))
    ranked = np.array([rng.permutation(25)[:6] for _ in range(150)], dtype=np.int32)
    ranked[5, 4:] = -1
    dense = taken.toarray()
    plain = []
    for row in ranked:
        items = [item for item in row if item >= 0]
        cosines = []
        for place, first in enumerate(items):
            for second in items[place + 1 :]:
                lengths = math.sqrt(dense[:, first].sum() * dense[:, second].sum())
                cosines.append(float(dense[:, first] @ dense[:, second]) / lengths if lengths else 0.0)
        plain.append(1 - sum(cosines) / len(cosines))
    np.testing.assert_allclose(list_diversity(ranked, unit_rows(taken.T.tocsr())), plain, atol=1e-12)


def test_attributes_decide_who_is_alike_when_there_are_some() -> None:
    outcome, _ = make(ranked=np.array([[0, 1]] * 3, dtype=np.int32))
    for attributes, expected in ((csr([[1, 0], [1, 0], [0, 1], [0, 0]]), 0.0), (csr([[1, 0], [0, 1]] * 2), 1.0)):
        catalogue = Catalogue(item_ids=list("abcd"), taken=TAKEN, attributes=attributes)
        assert summarize(outcome, catalogue, seed=0)["diversity@2"] == expected


def test_gini_is_none_for_equal_shares_and_nearly_one_for_one_item() -> None:
    assert gini(np.full(50, 7)) == pytest.approx(0.0)
    assert gini(np.array([0] * 99 + [5])) == pytest.approx(0.99)
    pairs = np.random.default_rng(0).integers(0, 30, 40)
    mean_difference = np.abs(pairs[:, None] - pairs[None, :]).mean()
    assert gini(pairs) == pytest.approx(mean_difference / (2 * pairs.mean()))


def test_self_information_of_one_and_of_all() -> None:
    assert self_information(np.array([16, 4, 1, 0]), 16).tolist() == [0.0, 0.5, 1.0, 1.0]


def test_list_means_leave_out_what_is_not_there() -> None:
    means = list_means(np.array([[1, 0], [1, -1], [-1, -1]], dtype=np.int32), np.array([2.0, 4.0]))
    assert means[:2].tolist() == [3.0, 4.0]
    assert np.isnan(means[2])


@pytest.mark.parametrize(
    ("values", "groups"),
    [([], []), ([5], [0]), ([3, 3, 3], [0, 0, 0]), ([1, 2, 3, 4], [0, 1, 2, 3]), ([0] * 9 + [1], [0] * 9 + [1])],
)
def test_groups_hold_equal_values_together(values: list[int], groups: list[int]) -> None:
    assert quantile_groups(np.array(values)).tolist() == groups


def test_groups_of_distinct_values_are_quarters() -> None:
    values = np.random.default_rng(0).permutation(1000)
    assert np.bincount(quantile_groups(values)).tolist() == [250] * 4


def test_an_items_age_runs_from_its_first_event_to_the_last_of_all() -> None:
    day = 86_400_000
    ages = item_age_days(np.array([0, 1, 0], dtype=np.int32), np.array([3, 5, 1]) * day, 3)
    assert ages.tolist() == [4.0, 0.0, 0.0]


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        low, high = interval(bootstrap_means((rng.random((150, 1)) < 0.2).astype(float), seed)[:, 0])
        held += low <= 0.2 <= high
    assert 0.91 <= held / 300 <= 0.98


def test_the_interval_is_as_wide_as_the_normal_one_and_seeded() -> None:
    values = np.random.default_rng(2).normal(5, 2, (4000, 2))
    means = bootstrap_means(values, seed=4, n_resamples=4000)
    np.testing.assert_allclose(means.std(axis=0), values.std(axis=0) / math.sqrt(4000), rtol=0.05)
    np.testing.assert_array_equal(means, bootstrap_means(values, seed=4, n_resamples=4000))
    assert (means != bootstrap_means(values, seed=5, n_resamples=4000)).any()


def test_columns_share_their_resamples() -> None:
    values = np.random.default_rng(2).random((50, 1))
    means = bootstrap_means(np.hstack([values, values + 1]), seed=0)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1.0)


def test_the_sign_test_equals_all_flips_written_out() -> None:
    differences = np.array([0.3, -0.1, 0.4, 0.25, 0.0, 0.05, 0.2])
    moved = differences[differences != 0]
    signs = np.array([[1 - 2 * (number >> bit & 1) for bit in range(6)] for number in range(64)])
    exact = (np.abs(signs @ moved) >= abs(moved.sum()) - 1e-12).mean()
    assert sign_flip_p(differences, seed=0, n_flips=40_000) == pytest.approx(exact, abs=0.005)


def test_the_sign_test_rejects_a_true_null_as_rarely_as_it_should() -> None:
    rng = np.random.default_rng(5)
    rejected = [sign_flip_p(rng.normal(size=60), seed, n_flips=399) <= 0.05 for seed in range(400)]
    assert 0.02 <= np.mean(rejected) <= 0.08
    assert sign_flip_p(np.full(40, 0.1), 0) == 1 / 5000
    assert sign_flip_p(np.zeros(10), 0) == 1.0


def test_for_people_slices_are_printed_a_group_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    put({"model": "graph", "intervals": {"recall@2": [0.25, 0.5]}, "slices": {"item_age_days": [{"from": 1}]}}, False)
    expected = "model      graph\nintervals  recall@2 [0.2500, 0.5000]\nslices, item age days\n  from 1\n"
    assert capsys.readouterr().out == expected
