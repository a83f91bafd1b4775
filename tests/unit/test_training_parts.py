"""The parts of training one by one, against small tables computed by hand or densely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError, HeadraceError
from headrace_training import progress
from headrace_training.datasets import read_pairs
from headrace_training.evaluate import latest_times
from headrace_training.index import choose_index
from headrace_training.landscape import assumed_landscape, observed_landscape, price_edges, traffic_profile
from headrace_training.models import GraphModel, IalsModel, ItemKnnModel, ials, make_model
from headrace_training.models.graph import leading_vectors
from headrace_training.neighbours import neighbour_arrays, shrunk_cosine
from headrace_training.probability import (
    ProbabilityModel,
    Sample,
    calibrate,
    calibration_report,
    fit_logistic,
    fit_probability,
    pool_adjacent_violators,
)
from headrace_training.ranking import top_k
from headrace_training.settings import FitSettings, read_settings
from headrace_training.split import hold_out


def random_matrix(n_users: int = 40, n_items: int = 30, density: float = 0.2, seed: int = 0) -> sp.csr_matrix:
    matrix = sp.random(
        n_users, n_items, density, format="csr", dtype=np.float32, random_state=np.random.default_rng(seed)
    )
    matrix.data[:] = 1.0
    return matrix


def test_duplicate_train_pairs_add_weight_and_ids_stay_opaque(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("007 a a b\n7 a\n007 a\n", encoding="utf-8")
    pairs = read_pairs(path)
    assert pairs.user_ids == ["007", "7"]
    assert pairs.matrix().toarray().tolist() == [[3.0, 1.0], [1.0, 0.0]]


def test_latest_times_are_aligned_with_the_matrix(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("user,item,time\nu,b,3000\nu,a,1000\nu,a,2000\n")
    pairs = read_pairs(path)
    train = pairs.matrix()
    latest = latest_times(pairs, train)
    assert latest is not None
    assert latest.toarray().tolist() == [[3_000_000.0, 2_000_000.0]]


def test_hold_out_takes_a_fifth_of_each_user_and_at_least_one_of_two() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1] + [0] * 8, [1] + [0] * 9], dtype=np.float32))
    kept, held = hold_out(train, seed=1)
    assert np.diff(held.indptr).tolist() == [2, 1, 0]
    assert (kept + held != train).nnz == 0
    again = hold_out(train, seed=1)[1]
    assert (again != held).nnz == 0


def test_hold_out_takes_the_latest_where_times_are_known() -> None:
    train = sp.csr_matrix(np.ones((2, 5), dtype=np.float32))
    latest = sp.csr_matrix(np.array([[5.0, 1, 2, 3, 4], [1.0, 2, 9, 3, 4]]))
    held = hold_out(train, seed=0, latest=latest)[1]
    assert held.toarray().tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]


@pytest.mark.parametrize("k", [3, 300])
def test_top_k_breaks_ties_by_index_and_bars_minus_infinity(k: int) -> None:
    ranked = top_k(np.array([[1.0, 3.0, 3.0, -np.inf]], dtype=np.float32), k)
    assert ranked[0, :3].tolist() == [1, 2, 0]
    assert (ranked[0, 3:] == -1).all()
    assert ranked.shape == (1, k)
    with pytest.raises(HeadraceError, match="NaN"):
        top_k(np.array([[1.0, np.nan]], dtype=np.float32), k)


def test_shrunk_cosine_by_hand() -> None:
    # a and b together in two groups of three and two; c with a once
    groups = sp.csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], dtype=np.float32))
    similar = shrunk_cosine(groups, n_neighbours=5, shrink=1.0).toarray()
    assert similar[0, 1] == pytest.approx(2 / (np.sqrt(6) + 1))
    assert similar[0, 2] == pytest.approx(1 / (np.sqrt(3) + 1))
    assert similar[0, 0] == similar[1, 2] == 0.0
    indptr, items, weights = neighbour_arrays(groups, n_neighbours=1, shrink=1.0)
    assert indptr.tolist() == [0, 1, 2, 3, 3]
    assert items.tolist() == [1, 0, 0]
    assert (indptr.dtype, items.dtype, weights.dtype) == (np.int64, np.int32, np.float32)


def test_neighbours_are_best_first_and_ties_by_index() -> None:
    groups = sp.csr_matrix(np.array([[1, 1, 1, 1], [1, 0, 0, 1]], dtype=np.float32))
    _, items, weights = neighbour_arrays(groups, n_neighbours=3, shrink=0.0)
    assert items[:3].tolist() == [3, 1, 2]
    assert weights[0] > weights[1] == weights[2]


def test_the_graph_filter_equals_its_dense_formula() -> None:
    train = random_matrix()
    model = GraphModel(user_exponent=0.25, from_exponent=0.6, to_exponent=0.4, low_pass=0.0, max_neighbours=30)
    model.fit(train)
    dense = train.toarray().astype(np.float64)
    users, items = dense.sum(axis=1), dense.sum(axis=0)
    weigh = np.where(users > 0, np.maximum(users, 1) ** -0.5, 0)
    expected = (dense * np.maximum(items, 1) ** -0.6) @ (dense.T * weigh) @ dense * np.maximum(items, 1) ** -0.4
    np.testing.assert_allclose(model.scores(np.arange(40, dtype=np.int32)), expected, rtol=1e-4, atol=1e-5)


def test_leading_vectors_span_the_singular_subspace() -> None:
    matrix = random_matrix(60, 25, 0.3)
    vectors = leading_vectors(matrix, 4, seed=0, n_iterations=30)
    exact = np.linalg.svd(matrix.toarray())[2][:4].T
    np.testing.assert_allclose(vectors @ vectors.T, exact @ exact.T, atol=2e-3)


def test_ials_solves_its_normal_equations_for_items() -> None:
    train = random_matrix()
    model = IalsModel(n_factors=8, alpha=5.0, regularization=2.0, iterations=60, user_exponent=0.0, item_exponent=0.0)
    model.fit(train)
    x, y = model.user_factors.astype(np.float64), model.item_factors.astype(np.float64)
    for item in range(30):
        c = 5.0 * train.toarray()[:, item]
        left = x.T @ x + (x.T * np.where(c > 0, c - 1, 0)) @ x + 2.0 * np.eye(8)
        np.testing.assert_allclose(left @ y[item], x.T @ c, atol=0.02 * np.abs(x.T @ c).max() + 0.02)


@pytest.mark.parametrize("name", ["graph", "ials", "itemknn", "popularity", "blend"])
def test_every_model_is_deterministic_and_finite(name: str) -> None:
    train = random_matrix()
    users = np.arange(40, dtype=np.int32)
    scores = []
    for _ in range(2):
        model = make_model(name, seed=7)
        model.fit(train)
        scores.append(model.scores(users))
    assert scores[0].shape == (40, 30)
    assert scores[0].dtype == np.float32
    assert np.isfinite(scores[0]).all()
    np.testing.assert_array_equal(scores[0], scores[1])
    assert all(isinstance(value, str | int | float) for value in model.parameters.values())


def test_item_knn_recommends_what_is_bought_together() -> None:
    train = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.float32))
    model = ItemKnnModel()
    model.fit(train)
    scores = model.scores(np.array([3], dtype=np.int32))[0]
    assert scores[1] > scores[2] == 0.0


@pytest.mark.parametrize("exact_below", [10_000, 10])
def test_the_index_reaches_its_recall_or_stays_exact(exact_below: int) -> None:
    rng = np.random.default_rng(0)
    items, queries = (
        rng.standard_normal((2000, 16)).astype(np.float32),
        rng.standard_normal((50, 16)).astype(np.float32),
    )
    choice = choose_index(items, queries, exact_below=exact_below)
    assert choice.recall >= 0.98
    assert choice.kind == "exact" or exact_below == 10  # which is faster, a crowded machine decides


def test_pool_adjacent_violators_by_hand() -> None:
    pooled = pool_adjacent_violators(np.array([1.0, 3.0, 2.0, 0.0, 5.0]), np.array([1.0, 1.0, 1.0, 1.0, 1.0]))
    assert pooled.tolist() == pytest.approx([1.0, 5 / 3, 5 / 3, 5 / 3, 5.0])
    weighted = pool_adjacent_violators(np.array([2.0, 1.0]), np.array([3.0, 1.0]))
    assert weighted.tolist() == pytest.approx([1.75, 1.75])


def logistic_sample(n: int, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((n, 6)).astype(np.float32)
    chance = 1 / (1 + np.exp(-(features @ np.array([1.5, 0.5, 0, -1, 0, 0.25]) - 2)))
    return Sample(features, (rng.random(n) < chance).astype(np.float64), np.ones(n))


def test_logistic_regression_finds_the_truth() -> None:
    weights, bias = fit_logistic(logistic_sample(40_000, 1))
    np.testing.assert_allclose(weights, [1.5, 0.5, 0, -1, 0, 0.25], atol=0.08)
    assert bias == pytest.approx(-2, abs=0.08)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_a_sample_with_one_label_gives_a_constant(label: float) -> None:
    features = np.ones((10, 6), dtype=np.float32)
    sample = Sample(features, np.full(10, label), np.ones(10))
    model = fit_probability(sample, sample)
    p = model.predict(features)
    assert np.isfinite(p).all()
    assert (model.weights == 0).all()
    assert p[0] == pytest.approx(label, abs=0.5)


def test_calibration_mends_a_distorted_score_and_is_measured_on_other_rows() -> None:
    first, second, third = (logistic_sample(20_000, seed) for seed in (1, 2, 3))
    weights, bias = fit_logistic(first)
    distorted = 3 * (second.features @ weights + bias)
    x, y = calibrate(distorted.astype(np.float64), second.labels, second.weights)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()
    model = ProbabilityModel((3 * weights).astype(np.float32), 3 * bias, x, y)
    report = calibration_report(model, third)
    assert report["calibration_expected_purchases"] == pytest.approx(report["calibration_actual_purchases"], rel=0.05)
    assert report["calibration_ece"] < 0.02


def test_the_assumed_landscape_has_its_median() -> None:
    edges, counts = price_edges(), assumed_landscape(4.0, 0.6)[0]
    assert (np.diff(edges) > 0).all()
    assert counts.shape == (len(edges) - 1,)
    half = np.searchsorted(np.cumsum(counts), counts.sum() / 2)
    assert edges[half] <= 4_000_000 * 1.12
    assert edges[half + 1] >= 4_000_000 / 1.12


def test_observed_prices_fall_into_their_bins(tmp_path: Path) -> None:
    path = tmp_path / "auctions.csv"
    path.write_text("exchange,price_cpm\nadx,1.5\nadx,0\n,500\nrtb,2\n")
    names, counts = observed_landscape(path)
    assert names == ["", "adx", "rtb"]
    assert counts.sum(axis=1).tolist() == [4.0, 2.0, 1.0]
    assert counts[0, 0] == counts[0, -1] == 1.0
    edges = price_edges()
    column = int(np.flatnonzero(counts[2])[0])
    assert edges[column] <= 2_000_000 < edges[column + 1]


@pytest.mark.parametrize("told", [0.0, 0.5])
def test_prices_that_losers_are_not_told_are_fitted(tmp_path: Path, told: float) -> None:
    rng = np.random.default_rng(0)
    prices, bids = 2.0 * np.exp(0.5 * rng.standard_normal((2, 4_000)))
    prices[2_000:] *= 4.0
    bids[2_000:] *= 4.0
    tell = rng.random(4_000) < told
    outcomes = np.where(tell, "price", np.where(bids >= prices, "won", "lost"))
    exchanges = np.repeat(["adx", "dear"], 2_000)
    rows = zip(exchanges, np.where(tell, prices, bids), outcomes, strict=True)
    path = tmp_path / "auctions.csv"
    path.write_text("exchange,price_cpm,outcome\n" + "".join(f"{e},{p},{o}\n" for e, p, o in rows))
    names, counts = observed_landscape(path)
    assert names == ["", "adx", "dear"]
    np.testing.assert_allclose(counts.sum(axis=1), [4_000, 2_000, 2_000], rtol=1e-6)
    below = price_edges()[1:] < 2_000_000  # up to 1.9, where 0.46 of the cheap exchange's prices lie
    assert counts[1, below].sum() / 2_000 == pytest.approx(0.46, abs=0.08)
    assert counts[2, below].sum() / 2_000 < 0.15  # hardly a bid on the dear one was so low


def test_an_outcome_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "auctions.csv"
    path.write_text("price_cpm,outcome\n1,won\n1,maybe\n")
    with pytest.raises(DataError, match="row 2: outcome"):
        observed_landscape(path)


@pytest.mark.parametrize("cell", ["nan", "inf", "-1", "cheap", ""])
def test_a_price_that_is_none_is_refused(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "auctions.csv"
    path.write_text(f"exchange,price_cpm\nadx,1\nadx,{cell}\n")
    with pytest.raises(DataError, match="row 2"):
        observed_landscape(path)


def test_the_week_begins_on_monday() -> None:
    monday_midnight = 1_709_510_400_000  # 2024-03-04T00:00:00Z
    profile = traffic_profile(np.array([monday_midnight] * 100 + [monday_midnight + 3_600_000 * 167]))
    assert profile.argmax() == 0
    assert profile[167] == pytest.approx(2 / 269)
    assert profile.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "values",
    [
        {"n_factors": 0},
        {"alpha": -1.0},
        {"event_weights": {"stare": 1.0}},
        {"event_weights": {"view": -1.0}},
        {"seed": -1},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        read_settings(None, dict(values))


def test_settings_from_a_file_with_flags_on_top(tmp_path: Path) -> None:
    path = tmp_path / "fit.toml"
    path.write_text("n_factors = 32\niterations = 3\n[event_weights]\nview = 0.25\n")
    settings = read_settings(path, {"iterations": 4, "alpha": None})
    assert (settings.n_factors, settings.iterations, settings.alpha) == (32, 4, FitSettings().alpha)
    assert settings.weights()["view"] == 0.25
    path.write_text("factors = 32\n")
    with pytest.raises(ConfigError, match="factors"):
        read_settings(path, {})


def test_settings_refuse_weights_that_teach_nothing() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        FitSettings(event_weights=dict.fromkeys(("view", "cart", "purchase", "share", "click"), 0.0))


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_passes_everything_on_and_keeps_stdout_clean(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    assert list(progress.track(range(3), "counting", total=3)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert ("counting: 3 of 3" in err) == (not terminal)


def test_a_missing_library_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ials, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"headrace\[train\]"):
        ials.IalsTrainer(4, 1.0, 1.0, 1, 0).factorize(sp.csr_matrix(np.ones((2, 2), np.float32)))
