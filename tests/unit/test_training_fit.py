"""`headrace-train fit` and what evaluates a log, on a small made-up shop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.artifacts import Artifact, ArtifactStore
from headrace.errors import DataError, StoreFullError
from headrace.events.log import NewEvent
from headrace_training.choice import Choice
from headrace_training.evaluate_log import evaluate_log, evaluate_log_metrics
from headrace_training.fit import Fitter
from headrace_training.history import build_history, daily_groups, repeat_rate
from headrace_training.ingest import open_log
from headrace_training.probability import Moment
from headrace_training.settings import FitSettings
from headrace_training.weights import Learned, Worth

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000
SETTINGS = FitSettings(n_factors=8, iterations=5, alpha=5.0, horizon_days=5.0)


def shop_events(n_users: int = 60, n_items: int = 24, n_days: int = 60, seed: int = 0) -> list[NewEvent]:
    """People of two tastes: even ones like the first half of the items, odd ones the second; they come back."""
    rng = np.random.default_rng(seed)
    events = []
    for day in range(n_days):
        for user in np.flatnonzero(rng.random(n_users) < 0.25).tolist():
            half = n_items // 2
            items = rng.integers(0, half, 3) + (user % 2) * half
            for number, item in enumerate(items.tolist()):
                time_ms = START_MS + day * DAY_MS + user * 60_000 + number
                kind = 1 if number == 2 else 3
                events.append(NewEvent(f"{day}-{user}-{number}", f"u{user}", "", kind, f"i{item}", time_ms))
    return events


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop")
    log = open_log(path / "log", create=True)
    log.append(shop_events())
    log.store.close()
    return path


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Artifact:
    log = open_log(folder / "log")
    events = log.read_columns()
    log.store.close()
    path = Fitter(events, SETTINGS, now_ms=START_MS + 61 * DAY_MS).run(ArtifactStore(folder / "store"))
    return Artifact.open(path)


def test_fit_writes_a_complete_version(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert artifact.version == "v20240114-221320"
    assert (manifest.n_users, manifest.n_items, manifest.n_factors) == (60, 24, 8)
    assert START_MS <= manifest.train_start_ms < START_MS + DAY_MS
    assert manifest.trained_until_ms == int(artifact.history_times_ms.max())
    assert manifest.landscape_source == "assumed"
    assert manifest.index_type == "exact"
    assert manifest.repeat_policy == "allow"
    assert manifest.repeat_rate > 0.2
    assert manifest.horizon_days == pytest.approx(5.0)
    assert manifest.log_sequence > 0


def test_the_metrics_beat_chance(artifact: Artifact) -> None:
    metrics = artifact.manifest.metrics
    # twelve of twenty-four items are of a person's taste, so a ranking by taste finds all within twenty
    assert metrics["recall@20"] > 0.9
    assert 0 < metrics["coverage@20"] <= 1
    ratio = metrics["calibration_expected_purchases"] / metrics["calibration_actual_purchases"]
    assert 0.6 < ratio < 1.6


def test_people_like_what_people_of_their_taste_buy(artifact: Artifact) -> None:
    scores = artifact.user_factors @ artifact.item_factors.T
    user = artifact.user_ids.find("u0")
    mine = [artifact.item_ids.find(f"i{item}") for item in range(12)]
    others = [artifact.item_ids.find(f"i{item}") for item in range(12, 24)]
    assert scores[user, mine].mean() > scores[user, others].mean() + 0.2


def test_stored_factors_are_what_serving_folds_in(artifact: Artifact) -> None:
    y = artifact.item_factors.astype(np.float64)
    np.testing.assert_allclose(artifact.gram, y.T @ y, rtol=1e-4, atol=1e-4)
    start, stop = artifact.history_indptr[:2]
    confidence = np.zeros(len(y))
    np.add.at(confidence, artifact.history_items[start:stop], artifact.history_weights[start:stop] * SETTINGS.alpha)
    left = y.T @ y + SETTINGS.regularization * np.eye(8) + (y.T * np.where(confidence > 0, confidence - 1, 0)) @ y
    expected = np.linalg.solve(left, y.T @ confidence)
    np.testing.assert_allclose(artifact.user_factors[0], expected, rtol=1e-3, atol=1e-4)


def test_popularity_neighbours_and_profile(artifact: Artifact) -> None:
    assert artifact.popularity.sum() == pytest.approx(1.0, abs=1e-5)
    assert (np.diff(artifact.popularity[artifact.popular_order]) <= 0).all()
    assert artifact.traffic_profile.sum() == pytest.approx(1.0)
    item = artifact.item_ids.find("i0")
    start, stop = artifact.neighbour_indptr[item : item + 2]
    names = artifact.item_ids.ids(artifact.neighbour_items[start:stop].tolist())
    assert {int(name[1:]) // 12 for name in names} == {0}


def test_one_seed_gives_one_artifact(folder: Path, artifact: Artifact) -> None:
    log = open_log(folder / "log")
    events = log.read_columns()
    log.store.close()
    again = Fitter(events, SETTINGS, now_ms=0).run(ArtifactStore(folder / "again"))
    assert Artifact.open(again).manifest.checksums == artifact.manifest.checksums


def test_a_return_takes_a_purchase_back(tmp_path: Path) -> None:
    log = open_log(tmp_path, create=True)
    kinds = [("a", 3), ("a", 3), ("a", 4), ("b", 3), ("b", 4), ("b", 4), ("c", 1), ("c", 3), ("d", 7)]
    log.append([NewEvent(str(n), "u", "", kind, item, START_MS + n) for n, (item, kind) in enumerate(kinds)])
    events = log.read_columns()
    log.store.close()
    history = build_history(events, {"view": 0.25, "purchase": 1.0}, START_MS + 100)
    assert history.bought().toarray().tolist() == [[1.0, 0.0, 1.0, 0.0]]
    assert history.confidence(1.0).toarray().tolist() == [[1.0, 0.0, 1.25, 0.0]]
    n_events, last = history.person_totals()
    assert n_events.tolist() == [5]
    assert last.tolist() == [START_MS + 7]


def test_repeat_rate_counts_later_purchases_only(tmp_path: Path) -> None:
    log = open_log(tmp_path, create=True)
    # a bought at 0, twice at once; again at 5; b once by another
    rows = [("u", "a", 0), ("u", "a", 0), ("u", "a", 5), ("v", "b", 5)]
    log.append([NewEvent(str(n), user, "", 3, item, START_MS + at) for n, (user, item, at) in enumerate(rows)])
    events = log.read_columns()
    log.store.close()
    assert repeat_rate(events) == pytest.approx(1 / 4)
    assert daily_groups(events, {"purchase": 1.0}, START_MS + 100).toarray().tolist() == [[1.0, 0.0], [0.0, 1.0]]


@pytest.mark.parametrize("purchase", [2.0, 0.5])
def test_learned_weights_stay_if_the_factors_find_more_with_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, purchase: float
) -> None:
    asked: list[Worth] = []

    def learn(events: object, start: Worth, *_: int, quantities: bool, seed: int) -> Learned:
        assert not quantities, "serving counts events, not pieces"
        asked.append(start)
        return Learned(Worth(weights={"purchase": purchase}, half_life_days=30.0), 0.1, 0.2)

    def found(moment: Moment, *_: object, exclude: bool) -> dict[str, float]:
        return {"recall@20": moment.purchase_weight / 10}

    monkeypatch.setattr("headrace_training.fit.learn_weights", learn)
    monkeypatch.setattr("headrace_training.fit.served_metrics", found)
    log = open_log(folder / "log")
    fitter = Fitter(log.read_columns(), msgspec.structs.replace(SETTINGS, learn_weights=True, blend="off"), now_ms=0)
    log.store.close()
    given = fitter.weights
    monkeypatch.setattr("headrace_training.fit.choose_extras", lambda *_: Choice())
    fitter.choose()
    assert [(dict(worth.weights), worth.half_life_days) for worth in asked] == [(given, 0.0)]
    expected = ({"purchase": 2.0}, 30.0) if purchase > 1 else (given, 0.0)
    assert (fitter.weights, fitter.half_life_days) == expected


def test_a_log_too_small_or_without_weight_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path, create=True)
    for events in ([], [NewEvent("1", "u", "", 7, "a", START_MS)], [NewEvent("2", "u", "", 3, "a", START_MS)]):
        log.append(events)
        with pytest.raises(DataError):
            Fitter(log.read_columns(), SETTINGS, now_ms=0)
    log.store.close()


def test_a_full_disk_leaves_no_version(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(folder / "log")
    events = log.read_columns()
    log.store.close()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(StoreFullError, match="free space"):
        Fitter(events, SETTINGS, now_ms=0).run(ArtifactStore(tmp_path))
    assert ArtifactStore(tmp_path).versions() == []
    assert list((tmp_path / "versions").iterdir()) == []


def test_evaluate_log_ranks_the_model_above_popularity(folder: Path) -> None:
    log = open_log(folder / "log")
    split_ms = START_MS + 50 * DAY_MS
    found = evaluate_log(log, split_ms, SETTINGS, k=6)
    log.store.close()
    assert found["ials"]["recall@6"] > found["popularity"]["recall@6"]
    assert found["copurchase"]["recall@6"] > found["popularity"]["recall@6"]
    assert found["users"]["all"] >= found["users"]["new"]
    assert {"recall@6", "ndcg@6", "new_recall@6", "new_ndcg@6"} == set(found["personal_repeat"])


def test_evaluate_log_fields_and_split(folder: Path) -> None:
    report = evaluate_log_metrics(folder / "log", START_MS + 50 * DAY_MS, model="popularity", k=5)
    assert {"model", "users", "items", "recall@5", "ndcg@5", "all_items_recall@5", "overlap_pairs"} <= set(report)
    assert report["overlap_pairs"] > 0
    for bad in (START_MS, START_MS + 100 * DAY_MS):
        with pytest.raises(DataError, match="--split-time"):
            evaluate_log_metrics(folder / "log", bad, model="popularity")


def test_train_is_before_the_split_and_test_from_it_on(tmp_path: Path) -> None:
    log = open_log(tmp_path, create=True)
    rows = [("u", "a", 0), ("v", "b", 1), ("u", "c", 9), ("u", "b", 10), ("w", "a", 10)]
    log.append([NewEvent(str(n), user, "", 3, item, START_MS + at) for n, (user, item, at) in enumerate(rows)])
    log.store.close()
    report = evaluate_log_metrics(tmp_path, START_MS + 10, model="popularity", k=1)
    # catalogue a, b, c; u has a and c, so b is the only candidate: hit. w is cold; a, b, c are equal, a first: hit
    assert (report["items"], report["users"], report["cold_users"]) == (3, 2, 1)
    assert report["recall@1"] == 1.0


def test_a_login_after_the_split_is_not_known_before_it(tmp_path: Path) -> None:
    log = open_log(tmp_path, create=True)
    log.append(
        [
            NewEvent("1", "v", "", 3, "a", START_MS),
            NewEvent("2", "", "phone", 3, "b", START_MS + 1),
            NewEvent("3", "u", "phone", 8, "", START_MS + 20),
            NewEvent("4", "u", "", 3, "a", START_MS + 30),
        ]
    )
    before: Any = log.read_columns(START_MS + 10)
    assert before.user_names == ["v", "\0phone"]
    assert log.read_columns().user_names == ["v", "u"]
    log.store.close()


def parsed(ran: tuple[int, str, str]) -> tuple[int, Any, str]:
    code, out, err = ran
    return code, json.loads(out) if out else None, err


def test_the_commands_from_events_to_rollback(headrace_train: Any, folder: Path, tmp_path: Path) -> None:
    run = lambda *words: parsed(headrace_train(*words, "--json"))  # noqa: E731
    events = tmp_path / "events.csv"
    rows = (f"{e.user_id},{e.item_id},{e.time_ms},{'view' if e.type == 1 else 'purchase'}" for e in shop_events())
    events.write_text("user_id,item_id,timestamp,event_type\n" + "\n".join(rows) + "\n")
    log, store = tmp_path / "log", tmp_path / "store"
    code, summary, _ = run("ingest", events, "--log", log)
    assert (code, summary["rejected"]) == (0, 0)
    fast = ("--n-factors", 4, "--iterations", 2, "--alpha", 5, "--horizon-days", 5)
    code, first, _ = run("fit", "--log", log, "--store", store, *fast, "--version", "first")
    assert (code, first["version"], first["published"]) == (0, "first", False)
    assert run("fit", "--log", log, "--store", store, *fast, "--seed", 1, "--version", "second")[0] == 0
    assert run("publish", "--store", store, "first")[1] == {"current": "first", "before": None}
    assert run("publish", "--store", store, "second", "--tolerance", 0.5)[1] == {"current": "second", "before": "first"}
    assert run("list", "--store", store)[1]["published"] == ["first", "second"]
    assert run("show", "--store", store)[1]["version"] == "second"
    assert run("rollback", "--store", store)[1] == {"current": "first", "before": "second"}
    test = tmp_path / "test.txt"
    test.write_text("u0 i1 i14\nstranger i5 i99\n")
    code, report, _ = run("evaluate", "--artifact", store, "--test", test, "--k", 24)
    assert code == 0
    assert (report["model"], report["items"], report["cold_users"], report["unseen_test_items"]) == ("blend", 24, 1, 1)
    assert report["recall@24"] == pytest.approx(0.75), "u0's i14 is found; of the stranger's two, one is unseen"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["fit", "--log", "{tmp}", "--store", "{tmp}/store"], 2),
        (["publish", "--store", "{tmp}"], 2),
        (["rollback", "--store", "{tmp}"], 2),
        (["show", "--store", "{tmp}"], 2),
        (["list", "--store", "{tmp}"], 2),
        (["ingest", "{tmp}/absent.csv", "--log", "{tmp}/log"], 2),
        (["ingest", "--log", "{tmp}/log"], 2),
        (["levitate"], 2),
    ],
)
def test_commands_on_nothing_end_with_2(headrace_train: Any, tmp_path: Path, words: list[str], code: int) -> None:
    got, out, err = parsed(headrace_train(*(word.format(tmp=tmp_path) for word in words)))
    assert got == code
    assert out is None
    assert err


def test_a_log_of_views_alone_is_measured_on_views(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", create=True)
    log.append([event._replace(type=1) for event in shop_events()])
    events = log.read_columns()
    log.store.close()
    artifact = Artifact.open(Fitter(events, SETTINGS, now_ms=0).run(ArtifactStore(tmp_path / "store")))
    assert artifact.manifest.metrics["recall@20"] > 0.9
    assert artifact.manifest.repeat_policy == "exclude_purchased"
    assert artifact.calibration_y.max() < 0.01, "nobody ever bought anything"


def test_everything_in_the_last_days_can_be_fitted_still(tmp_path: Path) -> None:
    log = open_log(tmp_path / "log", create=True)
    log.append([NewEvent("old", "u0", "", 3, "i0", START_MS - 900 * DAY_MS), *shop_events(n_days=20)])
    events = log.read_columns()
    log.store.close()
    artifact = Artifact.open(Fitter(events, SETTINGS, now_ms=0).run(ArtifactStore(tmp_path / "store")))
    assert np.isfinite(artifact.item_factors).all()
