"""Next-item models: what they learn, what they offer for serving, and how their settings are chosen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace_training import memory
from headrace_training.evaluate_sequences import evaluate_sequences
from headrace_training.evaluate_sessions import evaluate_sessions
from headrace_training.models import spectral
from headrace_training.models.transitions import TransitionModel, TransitionSettings, number_of_pairs
from headrace_training.nextitem import NEXT_ITEM_MODELS, gains, make_next_item, rank_prefixes, select_next_item
from headrace_training.problems import sequences_problem, sessions_problem
from headrace_training.sequences import Sequences
from headrace_training.space import Choice, space_of
from headrace_training.validation import choose_settings, hold_out_sessions

DOCS = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")


def rows_of(*rows: str) -> Sequences:
    ids = sorted(set(" ".join(rows).split()))
    items = np.array([ids.index(item) for row in rows for item in row.split()], dtype=np.int32)
    return Sequences(ids, np.cumsum([0, *(len(row.split()) for row in rows)]).astype(np.int64), items)


def made_up(n_rows: int, n_items: int, seed: int, repeats: bool = False) -> Sequences:
    """Walks that step by one to three items; with repeats, half of the steps go back to an item seen before."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n_rows):
        row = [int(rng.integers(n_items))]
        for _ in range(int(rng.integers(1, 7))):
            back = repeats and rng.random() < 0.5
            row.append(int(rng.choice(row)) if back else (row[-1] + int(rng.integers(1, 4))) % n_items)
        rows.append(row)
    indptr = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Sequences(
        [str(item) for item in range(n_items)], indptr, np.array([item for row in rows for item in row], dtype=np.int32)
    )


def fitted(train: Sequences, **settings: float) -> TransitionModel:
    model = TransitionModel(TransitionSettings(**settings))  # type: ignore[arg-type]
    model.fit(train)
    return model


def test_what_came_after_is_first_and_what_came_before_counts_less() -> None:
    train = rows_of("a b", "a b", "c a", "c a")
    model = fitted(train, spectral=0.0, backward=0.5, shrink=0.0)
    after_a = model.scores(Sequences(train.item_ids, np.array([0, 1]), np.zeros(1, dtype=np.int32)))[0]
    assert after_a[1] > after_a[2] > after_a[0]


def test_the_last_item_of_a_prefix_counts_most() -> None:
    train = rows_of("a b", "c d")
    prefixes = Sequences(train.item_ids, np.array([0, 2, 4]), np.array([0, 2, 2, 0], dtype=np.int32))
    scores = fitted(train, spectral=0.0, age_power=1.0).scores(prefixes)
    assert scores.argmax(axis=1).tolist() == [3, 1]


def test_late_rows_count_more_with_a_half_life() -> None:
    train = rows_of("a b", "a b", "a c", "x y")
    prefix = Sequences(train.item_ids, np.array([0, 1]), np.zeros(1, dtype=np.int32))
    assert fitted(train, spectral=0.0).scores(prefix).argmax() == 1
    assert fitted(train, spectral=0.0, half_life=0.1).scores(prefix).argmax() == 2


def test_items_that_never_met_are_near_over_a_third() -> None:
    train = rows_of(*["a b", "c b"] * 3, *["x y", "z y"] * 3)
    prefix = Sequences(train.item_ids, np.array([0, 1]), np.zeros(1, dtype=np.int32))
    ids = train.item_ids
    direct, reached = (fitted(train, spectral=weight, n_factors=2).scores(prefix)[0] for weight in (0.0, 1.0))
    assert direct[ids.index("c")] < 1e-5
    assert reached[ids.index("c")] > 0.1 > reached[ids.index("z")]


def test_what_nothing_reaches_is_in_order_of_popularity() -> None:
    train = rows_of("a b", "c d", "d", "d")
    prefix = Sequences(train.item_ids, np.array([0, 1]), np.zeros(1, dtype=np.int32))
    ranked = rank_prefixes(fitted(train, spectral=0.0), prefix, 4, masked=True)
    assert ranked.tolist() == [[1, 3, 2, -1]]


def test_the_servable_form_says_all_that_scores_say() -> None:
    train = made_up(300, 30, seed=1)
    model = fitted(train, repeat=0.4, spectral=0.7, n_factors=8, n_neighbours=5)
    served = model.servable()
    prefixes = made_up(20, 30, seed=2)
    expected = np.tile(served.popularity, (20, 1)).astype(np.float64)
    for number in range(20):
        row = prefixes.items[prefixes.indptr[number] : prefixes.indptr[number + 1]][::-1].tolist()
        for age, item in enumerate(row):
            expected[number, item] += served.repeats[age]
            if item not in row[:age]:
                expected[number] += sum(layer.weights[age] * layer.matrix[item].toarray()[0] for layer in served.layers)
    assert model.scores(prefixes) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert all(sp.issparse(layer.matrix) and layer.matrix.dtype == np.float32 for layer in served.layers)


def test_a_row_of_scores_is_the_same_bits_whatever_stands_beside_it() -> None:
    model = fitted(made_up(300, 30, seed=1), repeat=0.4, n_factors=8)
    prefixes = made_up(40, 30, seed=2)
    together = model.scores(prefixes)
    order = np.random.default_rng(0).permutation(40)
    assert np.array_equal(model.scores(prefixes.take(order)), together[order])
    assert np.array_equal(model.scores(prefixes.part(7, 8))[0], together[7])


def test_one_seed_gives_one_model() -> None:
    prefixes = made_up(10, 30, seed=2)
    first, second = (fitted(made_up(300, 30, seed=1), n_factors=8).scores(prefixes) for _ in range(2))
    assert np.array_equal(first, second)


def test_neighbours_are_alike_with_and_without_the_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    factors = np.random.default_rng(0).standard_normal((50, 8)).astype(np.float32)
    factors /= np.linalg.norm(factors, axis=1, keepdims=True)
    factors[7] = 0.0
    by_extension = spectral.nearest_items(factors, 6).toarray()
    monkeypatch.setattr(spectral, "find_spec", lambda name: None)
    monkeypatch.setattr(spectral, "BLOCK_CELLS", 160)
    assert spectral.nearest_items(factors, 6).toarray() == pytest.approx(by_extension, abs=1e-6)
    cosines = factors @ factors.T
    np.fill_diagonal(cosines, 0.0)
    cosines[cosines < np.sort(cosines, axis=1)[:, -6:-5]] = 0.0
    assert by_extension == pytest.approx(np.maximum(cosines, 0.0), abs=1e-6)


@pytest.mark.parametrize("rows", [["a"], ["a", "b"], ["a a"], ["a b"], ["a a a", "b"]])
def test_the_smallest_data_is_fitted(rows: list[str]) -> None:
    train = rows_of(*rows)
    for name in NEXT_ITEM_MODELS:
        model = make_next_item(name, 0)
        model.fit(train)
        scores = model.scores(train)
        assert scores.shape == (len(rows), train.n_items), name
        assert np.isfinite(scores).all(), name


def test_repeats_are_chosen_where_sessions_come_back_and_not_elsewhere() -> None:
    chosen = [
        choose_settings(hold_out_sessions(made_up(600, 40, 3, repeats), 5, 0), TransitionSettings(n_factors=8))[
            0
        ].repeat
        for repeats in (True, False)
    ]
    assert chosen[0] > 0
    assert chosen[1] == 0


def test_the_last_tenth_of_the_sessions_is_held_out() -> None:
    train = rows_of(*(f"i{number} j{number}" for number in range(50)))
    validation = hold_out_sessions(train, 20, 0)
    assert len(validation.train) == 45
    held = [train.item_ids[item] for item in validation.questions.targets]
    assert held == [f"j{number}" for number in range(45, 50)]


def test_too_few_questions_leave_the_defaults() -> None:
    model = select_next_item(hold_out_sessions(rows_of("a b", "b c"), 20, 0), 3, {})
    assert model.parameters == TransitionModel(TransitionSettings(seed=3)).parameters


def test_gains_of_a_hit_a_miss_and_an_unseen_target() -> None:
    ranked = np.array([[2, 0, 1], [0, 1, 2], [1, 0, -1]], dtype=np.int32)
    hit, reciprocal, ndcg = gains(ranked, np.array([1, 3, -1], dtype=np.int32))
    assert hit.tolist() == [1.0, 0.0, 0.0]
    assert reciprocal == pytest.approx([1 / 3, 0, 0])
    assert ndcg == pytest.approx([0.5, 0, 0])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("transitions", {"max_lag": 2.5}),
        ("transitions", {"repeat": -1}),
        ("transitions", {"repeat": float("nan")}),
        ("transitions", {"spectral": float("inf")}),
        ("transitions", {"backward": True}),
        ("transitions", {"lags": 3}),
        ("popularity", {"repeat": 1}),
        ("magic", {}),
    ],
)
def test_parameters_that_are_none_are_refused(name: str, parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        make_next_item(name, 0, parameters)


def test_whole_numbers_do_for_powers() -> None:
    train = rows_of("a b c", "b c")
    scores = []
    for one in (1, 1.0):
        model = make_next_item("transitions", 0, {"lag_power": one, "age_power": one, "spectral_age_power": one})
        model.fit(train)
        scores.append(model.scores(train))
    assert np.array_equal(*scores)


def test_weights_of_zero_leave_popularity() -> None:
    zero = dict.fromkeys(("lag_power", "backward", "age_power", "repeat", "spectral", "n_factors", "n_neighbours"), 0)
    model = make_next_item("transitions", 0, {**zero, "max_lag": 0})
    train = rows_of("a b", "b c", "b")
    model.fit(train)
    ranked = rank_prefixes(model, train, 3, masked=False)
    assert ranked.tolist() == [[1, 0, 2]] * 3


def test_a_fit_that_the_memory_cannot_hold_is_refused_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sessions.txt").write_text("a b\nb c\n")
    (tmp_path / "lines.txt").write_text("a | b\n")
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    with pytest.raises(ConfigError, match="fitting transitions on 4 places and 3 items takes about"):
        evaluate_sessions(tmp_path / "sessions.txt", tmp_path / "lines.txt")
    evaluate_sessions(tmp_path / "sessions.txt", tmp_path / "lines.txt", model="popularity")


def test_pairs_are_numbered_before_they_are_listed() -> None:
    # a row of 5: 4 neighbours, 3 two apart; a row of 2: one pair
    assert number_of_pairs(rows_of("a b c d e", "a", "a b"), 2) == 4 + 3 + 1


def test_a_search_tries_what_the_format_can_tell(tmp_path: Path) -> None:
    lines = [" ".join(f"i{(row * 3 + step) % 12}" for step in range(5)) for row in range(80)]
    (tmp_path / "sessions.txt").write_text("\n".join(lines))
    (tmp_path / "people.txt").write_text("\n".join(f"u{row} {line}" for row, line in enumerate(lines)))
    of_sessions = sessions_problem(tmp_path / "sessions.txt", "auto", 5, 0)
    of_people = sequences_problem(tmp_path / "people.txt", "auto", 5, 0)
    assert set(of_sessions.spaces["transitions"]) - set(of_people.spaces["transitions"]) == {
        "half_life",
        "repeat",
        "repeat_decay",
    }
    for problem in (of_sessions, of_people):
        assert 0 < problem.measure("transitions", {"spectral": 0.0, "n_factors": 4}) <= 1
    (tmp_path / "few.txt").write_text("a b\nb c\n")
    with pytest.raises(DataError, match="questions to validate on"):
        sessions_problem(tmp_path / "few.txt", "auto", 5, 0)
    with pytest.raises(ConfigError):
        sessions_problem(tmp_path / "sessions.txt", "popularity", 5, 0)


def test_defaults_lie_in_the_searched_space() -> None:
    parameters = make_next_item("transitions", 0).parameters
    for name, span in space_of(TransitionModel).items():
        value = parameters[name]
        assert value in span.options if isinstance(span, Choice) else span.low <= value <= span.high, name


def test_parameters_of_a_file_are_used(tmp_path: Path) -> None:
    (tmp_path / "sessions.txt").write_text("a b\nb c\n")
    (tmp_path / "lines.txt").write_text("a | b\n")
    (tmp_path / "best.json").write_text('{"model": "transitions", "parameters": {"repeat": 2.5}}')
    files = (tmp_path / "sessions.txt", tmp_path / "lines.txt")
    report = evaluate_sessions(*files, parameters=tmp_path / "best.json")
    assert report["parameters"]["repeat"] == 2.5
    assert report["test_openings"] == 1
    with pytest.raises(ConfigError):
        evaluate_sessions(*files, parameters=tmp_path / "best.json", model="popularity")


@pytest.mark.parametrize("name", [*NEXT_ITEM_MODELS, "auto"])
def test_every_next_item_model_is_documented(name: str) -> None:
    assert f"| `{name}` |" in DOCS


@pytest.mark.parametrize("format", ["sessions", "sequences"])
def test_every_format_is_documented(format: str) -> None:
    assert f"--format {format}" in DOCS


def test_saved_runs_of_both_formats_hold_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "sessions.txt").write_text("a b\nb c\n")
    (tmp_path / "lines.txt").write_text("a | b\na | z\n")
    evaluate_sessions(tmp_path / "sessions.txt", tmp_path / "lines.txt", k=2, save=tmp_path / "run")
    (tmp_path / "people.txt").write_text("u a b c d\nv b c\n")
    evaluate_sequences(tmp_path / "people.txt", k=2, save=tmp_path / "other")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        path.name for path in (tmp_path / "other").iterdir()
    }
