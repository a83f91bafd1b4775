"""Reading baskets, the repeat-rhythm model and its parts."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.errors import ConfigError, DataError
from headrace_training import memory
from headrace_training.baskets import Baskets, read_baskets
from headrace_training.evaluate_baskets import evaluate_baskets, rank_baskets
from headrace_training.kernels.choice import choice_loss
from headrace_training.models.associations import Associations
from headrace_training.models.habits import FEATURES, Habits
from headrace_training.models.rhythm import PRIOR, WEIGHTS, RhythmModel, learn_weights

HABIT = {"u1": [["a", "b"], ["a"], ["c"], ["a", "c"]], "u2": [["b"]], "u3": []}


def written(folder: Path, text: str) -> Path:
    path = folder / "baskets.json"
    path.write_text(text)
    return path


def baskets_of(folder: Path, people: object) -> Baskets:
    return read_baskets(written(folder, json.dumps(people)))


def regulars(n_people: int, turns: range = range(8)) -> dict[str, list[list[str]]]:
    """Everybody takes their own item every other time, and that of their group in between."""
    return {
        f"u{person}": [[f"own{person}"] if (turn + person) % 2 else [f"shared{person % 3}"] for turn in turns]
        for person in range(n_people)
    }


def test_entries_know_their_basket_person_and_age(tmp_path: Path) -> None:
    baskets = baskets_of(tmp_path, HABIT)
    assert baskets.user_ids == ["u1", "u2", "u3"]
    assert baskets.item_ids == ["a", "b", "c"]
    assert baskets.n_baskets.tolist() == [4, 1, 0]
    assert baskets.items.tolist() == [0, 1, 0, 2, 0, 2, 1]
    assert baskets.age.tolist() == [3, 3, 2, 1, 0, 0, 0]
    assert baskets.counts().toarray().tolist() == [[3, 1, 2], [0, 1, 0], [0, 0, 0]]


def test_splitting_off_the_latest_basket_leaves_single_baskets(tmp_path: Path) -> None:
    before, latest = baskets_of(tmp_path, HABIT).split_last()
    assert before.n_baskets.tolist() == [3, 1, 0]
    assert latest.counts().toarray().tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_sentinels_empty_baskets_and_duplicates_are_passed_over(tmp_path: Path) -> None:
    found = baskets_of(tmp_path, {"u": [[-1], [], [3, 3, "3", -1], ["-1"], [4]]})
    assert found.item_ids == ["3", "4"]
    assert found.n_baskets.tolist() == [2]
    assert found.items.tolist() == [0, 1]


def test_ids_are_opaque_text(tmp_path: Path) -> None:
    assert baskets_of(tmp_path, {"ü\t": [["a b", 7]]}).item_ids == ["a b", "7"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"u": [[1],\n [2]', "line 2, column"),
        ("[[1]]", "expected one object"),
        ("3", "expected one object"),
        ('{"u": 3}', "person 'u': got 3, expected a list of baskets"),
        ('{"u": {"a": [1]}}', "person 'u'"),
        ('{"u": [[1], 2]}', "person 'u', basket 2: got 2"),
        ('{"u": [[1, null]]}', "person 'u', basket 1: got None"),
        ('{"u": [[1.5]]}', "got 1.5"),
        ('{"u": [[true]]}', "got True"),
        ('{"u": [[""]]}', "got ''"),
        ('{"u": [[[1]]]}', r"got \[1\]"),
        ('{"u": [[NaN]]}', "got nan"),
        ('{"u": [[1]], "u": [[2]]}', "person 'u' is there twice"),
        ('{"u": [[-1]], "v": []}', "holds no basket"),
        ("{}", "holds no basket"),
        ("", "line 1, column 1"),
        ("[" * 100_000, "brackets"),
    ],
)
def test_malformed_json_is_refused_by_its_place(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(DataError, match=where):
        read_baskets(written(tmp_path, text))


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(HABIT).encode() * 50)
    (tmp_path / "cut.json.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.json\.gz"):
        read_baskets(tmp_path / "cut.json.gz")


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"--train": None}, "--train"),
        ({"--test": None}, "--test"),
        ({"--test": "absent.json"}, "absent.json does not exist"),
        ({"--model": "ials"}, "--model"),
        ({"--artifact": "store"}, "--artifact"),
        ({"--k": "0"}, "--k"),
        ({"--seed": "-1"}, "--seed"),
    ],
)
def test_the_command_ends_with_2_on_bad_options(
    headrace_train: Any, tmp_path: Path, options: dict[str, str | None], what: str
) -> None:
    path = str(written(tmp_path, json.dumps(HABIT)))
    given = {"--train": path, "--test": path} | options
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    code, out, err = headrace_train("evaluate", "--format", "baskets", *arguments, "--json")
    assert code == 2
    assert out == ""
    assert what in err


def test_habits_by_hand(tmp_path: Path) -> None:
    habits = Habits.of(baskets_of(tmp_path, HABIT))
    assert habits.indptr.tolist() == [0, 3, 4, 4]
    # a of u1: baskets of age 3, 2 and 0
    assert (habits.count[0], habits.first[0], habits.last[0]) == (3, 3, 0)
    assert habits.recent_2[0] == pytest.approx(1 + 1 / 4 + 1 / 8)
    rates = habits.rates(3)
    # one owner each of a and c, both repeat; b has two and neither does
    mean = (2 + 1) / (4 + 2)
    assert rates.repeat == pytest.approx([(1 + 10 * mean) / 11, 10 * mean / 12, (1 + 10 * mean) / 11])
    # two steps of a in three baskets, one of c in one
    typical = (4 + 1) / (3 + 1)
    assert rates.rhythm == pytest.approx([(3 + 10 * typical) / 12, typical, (1 + 10 * typical) / 11])
    row = dict(zip(FEATURES, habits.features(rates)[2].tolist(), strict=True))
    assert row["share"] == pytest.approx(2 / 4)
    assert row["due"] == pytest.approx((1 + 0) / ((1 + rates.rhythm[2]) / 2), rel=1e-6)
    assert row["log_size"] == pytest.approx(math.log(6 / 4))


def test_associations_by_hand(tmp_path: Path) -> None:
    people = {"u1": [["a", "b"], ["c"]], "u2": [["a"], ["c"]], "u3": [["b"]]}
    associations = Associations.of(baskets_of(tmp_path, people))
    # a, b, c are of 2, 2 and 2 people; u1 has three items, u2 two
    together = associations.together.toarray()
    assert together[0] == pytest.approx(np.array([0, 1 / 3, 1 / 3 + 1 / 2]) / math.sqrt(2))
    # c after {a, b} and after {a}; a is in two baskets
    following = associations.following.toarray()
    assert following[0] == pytest.approx([0, 0, (1 / math.sqrt(2) + 1) / 2**0.7])
    # in the latest baskets of 0, 1 and 2 people, and in 2 baskets each
    assert associations.everybody[0] == pytest.approx([0, 1 / 2, 1])
    assert associations.everybody[1] == pytest.approx(np.log([1, 2, 3]))
    assert associations.everybody[2] == pytest.approx(np.log([1 / 3, 2 / 3, 1]))
    # u2 holds a by 0.9 and c by 1; the highest of what goes with them counts 1
    with_u2 = (0.9 * together[0] + together[2]) / 1.9
    assert next(iter(associations.personal(np.array([1], dtype=np.int32))))[0] == pytest.approx(with_u2 / with_u2.max())


def test_the_choice_kernel_is_the_conditional_logit_and_its_gradient() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(5, 4, 3)).astype(np.float32)
    wanted = np.float32(rng.random((5, 4)) < 0.4)
    counts, weights = np.array([4, 4, 3, 0, 4]), rng.normal(size=3)
    wanted[2, 3:] = 0
    wanted[3] = 0

    def loss(at: np.ndarray) -> float:
        total = 0.0
        for row, count in enumerate(counts):
            if not count:
                continue
            scores = features[row, :count].astype(np.float64) @ at
            total -= float((wanted[row, :count] * (scores - np.log(np.exp(scores).sum()))).sum())
        return total

    gradient = np.empty(3)
    assert choice_loss(features, wanted, counts, weights, gradient) == pytest.approx(loss(weights))
    steps = 1e-5 * np.eye(3)
    assert gradient == pytest.approx([(loss(weights + step) - loss(weights - step)) / 2e-5 for step in steps], rel=1e-4)


def test_without_two_baskets_of_anybody_the_prior_stands(tmp_path: Path) -> None:
    weights = learn_weights(baskets_of(tmp_path, {"u1": [["a"]], "u2": [["b"]]}), seed=0)
    assert weights.tolist() == [PRIOR.get(name, 0.0) for name in WEIGHTS]


def test_the_rhythm_foretells_more_than_frequency(tmp_path: Path) -> None:
    (tmp_path / "future.json").write_text(json.dumps(regulars(90, range(8, 9))))
    report = evaluate_baskets(written(tmp_path, json.dumps(regulars(90))), tmp_path / "future.json", k=1)
    assert report["model"] == "rhythm"
    # both items are as frequent; what is due is the one that was not in the latest basket
    assert report["baselines"]["gp-topfreq"]["recall@1"] == 0.5
    assert report["recall@1"] == 1.0


def test_a_fit_is_the_same_twice_and_a_person_does_not_depend_on_companions(tmp_path: Path) -> None:
    train = baskets_of(tmp_path, regulars(40))
    first, again = RhythmModel(seed=1), RhythmModel(seed=1)
    first.fit(train)
    again.fit(train)
    everybody = np.arange(40, dtype=np.int32)
    scores = first.scores(everybody)
    assert np.array_equal(scores, again.scores(everybody))
    assert np.array_equal(scores[7:8], first.scores(everybody[7:8]))


def test_people_and_items_without_baskets_have_finite_scores(tmp_path: Path) -> None:
    train = baskets_of(tmp_path, {**regulars(30), "nobody": [[-1]], "one": [["only"]]})
    model = RhythmModel()
    model.fit(train)
    users = np.array([30, 31], dtype=np.int32)
    assert np.isfinite(model.scores(users)).all()
    assert (rank_baskets(model, users, 5) >= 0).all()


def test_more_memory_than_there_is_is_refused_before_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, json.dumps(HABIT))
    monkeypatch.setattr(memory, "available_bytes", lambda: 10_000_000)
    with pytest.raises(ConfigError, match=r"fitting rhythm on 7 bought items takes about .* GB of memory"):
        evaluate_baskets(path, path)


def test_what_a_server_gets_gives_the_models_scores(tmp_path: Path) -> None:
    train = baskets_of(tmp_path, regulars(30))
    model = RhythmModel()
    model.fit(train)
    served = model.servable()
    habits, taken = Habits.of(train), Associations.of(train)
    weights = served.weights
    own = habits.features(served.rates) @ np.array([weights[name] for name in FEATURES])
    person = np.array([4], dtype=np.int32)
    parts = list(taken.personal(person))
    expected = served.everybody + sum(
        weights[name] * part[0] for name, part in zip(("together", "next"), parts, strict=True)
    )
    mine = slice(habits.indptr[4], habits.indptr[5])
    expected[habits.items[mine]] += own[mine]
    assert model.scores(person)[0] == pytest.approx(expected, abs=1e-4)
