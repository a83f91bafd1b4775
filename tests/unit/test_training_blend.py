"""What `fit` adds to the factors: links, sessions, their choice, and that all of it is measured as it is served."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import scipy.sparse as sp

from headrace.artifact_format import BlendTerms
from headrace.artifacts import Artifact, ArtifactStore
from headrace.errors import ConfigError
from headrace.events.columns import TrainingColumns
from headrace.events.log import EventLog, NewEvent
from headrace.events.store import Store
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace.reference.blend import PlainBlend, blend_additions
from headrace.state.users import MAX_HISTORY
from headrace_training.choice import START
from headrace_training.fit import Fitter
from headrace_training.history import build_history
from headrace_training.ingest import open_log
from headrace_training.links import item_links, link_arrays, links_an_item, session_links, sessions
from headrace_training.models.artifact import ArtifactModel, stored_history
from headrace_training.probability import Moment
from headrace_training.session_choice import choose_session
from headrace_training.settings import FitSettings
from headrace_training.slate import FactorModel, item_sources

DAY_MS, MINUTE_MS = 86_400_000, 60_000
START_MS = 1_700_000_000_000


def walks(n_users: int = 80, n_items: int = 40, n_days: int = 40, seed: int = 0) -> list[NewEvent]:
    """People who come on some days and go through the items in order from a place of their own, one a minute."""
    rng = np.random.default_rng(seed)
    events = []
    for day in range(n_days):
        for user in np.flatnonzero(rng.random(n_users) < 0.3).tolist():
            first = int(rng.integers(n_items))
            for step in range(4):
                time_ms = START_MS + day * DAY_MS + user * 10 * MINUTE_MS + step * MINUTE_MS
                item = (first + step) % n_items
                events.append(NewEvent(f"{day}-{user}-{step}", f"u{user}", "", 3, f"i{item}", time_ms))
    return events


def columns(rows: list[tuple[int, int, int]], n_users: int = 3, n_items: int = 5) -> TrainingColumns:
    """Purchases from (user, item, minute)."""
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    n = len(table)
    return TrainingColumns(
        user_idx=table[:, 0].astype(np.int32),
        user_names=[f"u{i}" for i in range(n_users)],
        item_idx=table[:, 1].astype(np.int32),
        item_ids=[f"i{i}" for i in range(n_items)],
        times_ms=table[:, 2] * MINUTE_MS,
        types=np.full(n, 3, np.int8),
        quantities=np.ones(n),
        prices_micros=np.zeros(n, np.int64),
        log_id="log",
        log_sequence=n,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("walks")
    log = open_log(path / "log", create=True)
    log.append(walks())
    log.store.close()
    return path


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Artifact:
    log = open_log(folder / "log")
    events = log.read_columns()
    log.store.close()
    settings = FitSettings(n_factors=4, iterations=3, alpha=1.0, horizon_days=6.0, links=10, repeat_policy="allow")
    return Artifact.open(Fitter(events, settings, now_ms=START_MS).run(ArtifactStore(folder / "store")))


def test_sessions_end_after_a_pause_and_with_the_person() -> None:
    events = columns([(0, 1, 5), (1, 2, 6), (0, 2, 0), (0, 3, 36), (1, 0, 6)])
    moves = sessions(events, np.ones(5, bool), 30 * MINUTE_MS)
    assert moves.order.tolist() == [2, 0, 3, 1, 4]  # by person, time, then the log's order
    assert moves.begins.tolist() == [True, False, True, True, False]


def test_session_links_count_moves_by_lag_and_never_stay() -> None:
    items, begins = np.array([0, 1, 2, 0, 0, 1], np.int32), np.array([1, 0, 0, 1, 0, 0], bool)
    links = session_links(items, begins, 4, 10).toarray()
    # from 0: to 1 (first session), to 2 over two, to 1 over one and over two (second session)
    moves = np.array([[0, 2.5, 0.5, 0], [0, 0, 1, 0], [0] * 4, [0] * 4])
    wanted = moves / (moves.sum(axis=1, keepdims=True) + 5.0)
    np.testing.assert_allclose(links, wanted, rtol=1e-6)


@pytest.mark.parametrize("kind", ["linear", "together", "both"])
def test_item_links_are_few_positive_and_to_others(kind: str) -> None:
    rng = np.random.default_rng(0)
    taken = sp.random(60, 20, 0.3, "csr", dtype=np.float32, random_state=rng)
    links = item_links(kind, taken, taken, 4)
    assert links.shape == (20, 20)
    assert links.nnz > 20
    assert np.diff(links.indptr).max() <= 4
    assert (links.data > 0).all()
    assert not links.diagonal().any()


def test_items_that_two_people_took_have_no_linear_links() -> None:
    taken = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=np.float32))
    assert item_links("linear", taken, taken, 4).nnz == 0


def test_large_catalogues_get_fewer_links_an_item() -> None:
    assert (links_an_item(1000, 100), links_an_item(1_000_000, 100), links_an_item(10**9, 100)) == (100, 20, 1)


@pytest.mark.parametrize(
    "terms",
    [
        BlendTerms(item_weight=0.5, power=0.5, length_power=0.5),
        BlendTerms(item_weight=2.0, power=1.0, half_life_days=2.0),
        BlendTerms(item_weight=1.0, power=0.0, half_life_days=30.0, length_power=1.0),
    ],
)
def test_training_values_histories_as_serving_does(factories: ModuleType, log: EventLog, terms: BlendTerms) -> None:
    made = factories.make_artifact(n_users=30, n_items=50, history=20)
    merged = Model(made, log).users.gather([f"u{i}" for i in range(30)], START_MS).merged
    links = np.random.default_rng(1).random((50, 50)).astype(np.float32)
    plain = PlainBlend(links, np.zeros((50, 50), np.float32), np.empty(0, np.float32), terms)
    history, nothing = stored_history(made), np.zeros((0, 0), np.float32)
    moment = Moment(START_MS, history, nothing, nothing, nothing, made.manifest.event_weights["purchase"])
    sources = item_sources(moment, terms, terms.item_weight)
    for user in range(30):
        wanted = blend_additions(plain, merged, user, START_MS)
        np.testing.assert_allclose((sources[user] @ links).ravel(), wanted, rtol=1e-4, atol=1e-6)


def test_of_a_long_history_training_uses_what_serving_uses() -> None:
    n = MAX_HISTORY + 20
    events = columns([(0, item, (7 * item) % n) for item in range(n)], n_users=1, n_items=n)
    weights, last_ms = build_history(events, {"purchase": 1.0}, 2**62).served(1.0)
    assert weights.nnz == len(last_ms) == MAX_HISTORY
    assert last_ms.min() == 20 * MINUTE_MS
    assert (events.times_ms[weights.indices] == last_ms).all()


def test_fit_serves_a_blend_where_it_gains_and_says_so(artifact: Artifact) -> None:
    manifest = artifact.manifest
    assert manifest.blend.session_weight > 0
    assert manifest.metrics["next_item_hits@20"] > manifest.metrics["factors_next_item_hits@20"] + 0.2
    assert manifest.metrics["factors_recall@20"] > 0
    assert manifest.metrics["chosen_served_ndcg@20"] >= manifest.metrics["chosen_factors_ndcg@20"]
    assert len(artifact.session_link_indptr) == len(artifact.item_ids) + 1
    # what comes next is what the walks go on to
    for item in range(39):
        row, next_row = artifact.item_ids.find(f"i{item}"), artifact.item_ids.find(f"i{item + 1}")
        assert artifact.session_link_items[artifact.session_link_indptr[row]] == next_row


def test_evaluation_of_an_artifact_scores_as_the_server_does(artifact: Artifact, folder: Path) -> None:
    terms = msgspec.structs.replace(START, item_weight=0.3, new_item_weight=0.7)
    links = item_links("together", ArtifactModel(artifact).train, ArtifactModel(artifact).train, 10)
    manifest = msgspec.structs.replace(artifact.manifest, blend=terms, repeat_boost=0.4)
    blended = dataclasses.replace(artifact, manifest=manifest, **link_arrays("item", links))
    log = open_log(folder / "log")
    recommender = Recommender(Model(blended, log), log)
    for user, only_new in itertools.product(range(0, 80, 9), (False, True)):
        model, row = ArtifactModel(blended, only_new=only_new), artifact.user_ids.find(f"u{user}")
        (answer,) = recommender.recommend([Query(f"u{user}", limit=40, exclude_purchased=only_new)])
        assert isinstance(answer, Answer)
        (scores,) = model.scores(np.array([row], dtype=np.int32))
        shown = scores[np.setdiff1d(np.arange(40), model.train[row].indices)] if only_new else scores
        np.testing.assert_allclose(answer.scores, np.sort(shown)[::-1], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(scores[answer.rows], answer.scores, rtol=1e-3, atol=1e-4)
    log.store.close()


def test_a_view_of_the_session_is_followed_by_the_next_item(artifact: Artifact, folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "log.sqlite")
    log = EventLog(store)
    recommender = Recommender(Model(artifact, log), log)
    (before, told) = recommender.recommend([Query("new"), Query("new", limit=3, session_item_ids=["i7"])])
    log.append([NewEvent("e1", "new", "", 3, "i7", recommender.clock_ms())])
    recommender.catch_up()
    (after,) = recommender.recommend([Query("new", limit=3)])
    assert isinstance(before, Answer)
    assert isinstance(told, Answer)
    assert isinstance(after, Answer)
    assert before.cold_start
    assert "i8" in told.item_ids
    assert "i8" in after.item_ids
    store.close()


def test_without_sessions_no_transitions_are_chosen() -> None:
    events = columns([(user, user, 60 * user) for user in range(3)])
    nobody = FactorModel(np.zeros((0, 2), np.float32), np.zeros((5, 2), np.float32))
    choice = choose_session(events, np.ones(3, bool), 0, 2**62, lambda _: nobody, 10)
    assert choice.weight == 0.0


def test_the_blend_can_be_switched_off(folder: Path) -> None:
    log = open_log(folder / "log")
    events = log.read_columns()
    log.store.close()
    settings = FitSettings(n_factors=4, iterations=3, alpha=1.0, horizon_days=6.0, blend="off")
    made = Artifact.open(Fitter(events, settings, now_ms=START_MS + DAY_MS).run(ArtifactStore(folder / "store")))
    assert made.manifest.blend == BlendTerms()
    assert not len(made.item_link_indptr)
    assert made.manifest.parameters["model"] == "ials"


@pytest.mark.parametrize("wrong", [{"links": 0}, {"links": 1001}])
def test_settings_of_the_blend_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="links"):
        FitSettings(**wrong)
