"""Recommendations: who gets what, by which tier, always as many as there are."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace.artifacts import Artifact
from headrace.errors import NotFoundError, PreconditionError
from headrace.events.items import CatalogItem
from headrace.events.log import EventLog, NewEvent
from headrace.events.schema import LOGIN, PURCHASE
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace.reference import foldin, topk

T = 1_700_000_000_000
EXACT, POPULAR = 1, 3

Make = Callable[..., Recommender]


def ask(recommender: Recommender, **query: Any) -> Answer:
    (answer,) = recommender.recommend([Query(**query)])
    assert isinstance(answer, Answer), answer
    return answer


def buy(log: EventLog, user: str, *items: str, anonymous: str = "") -> int:
    count = log.sequence()
    events = [NewEvent(f"b{count + i}", user, anonymous, PURCHASE, item, T) for i, item in enumerate(items)]
    return log.append(events).sequence


def expected(artifact: Artifact, user: str, k: int, *, exclude_purchased: bool) -> tuple[list[str], np.ndarray]:
    """The slate of a user of the artifact, from dense double-precision sums."""
    manifest, user_idx = artifact.manifest, artifact.user_ids.find(user)
    span = slice(artifact.history_indptr[user_idx], artifact.history_indptr[user_idx + 1])
    rows, weights = artifact.history_items[span], artifact.history_weights[span]
    gram = artifact.gram + manifest.regularization * np.eye(len(artifact.gram))
    x = foldin.fold_in(gram.astype(np.float32), artifact.item_factors, rows, manifest.alpha * weights)
    allowed = np.ones(len(artifact.item_ids), dtype=bool)
    if exclude_purchased:
        allowed[rows[artifact.history_types[span] == PURCHASE]] = False
    best, scores = topk.top_scores((artifact.item_factors @ x).astype(np.float32), allowed, k)
    return artifact.item_ids.ids(best.tolist()), scores


@pytest.mark.parametrize("boost", [0.1, 1.0, 30.0])
def test_what_a_person_bought_is_lifted_and_nothing_else(make: Make, factories: ModuleType, boost: float) -> None:
    artifact = factories.make_artifact(repeat_policy="allow", repeat_boost=boost, repeat_days=40.0)
    recommender, n = make(artifact), len(artifact.item_ids)
    for user in ("u0", "u7", "u23"):
        plain, scores = expected(artifact, user, n, exclude_purchased=False)
        total = dict(zip(plain, scores.tolist(), strict=True))
        user_idx = artifact.user_ids.find(user)
        span = slice(artifact.history_indptr[user_idx], artifact.history_indptr[user_idx + 1])
        last_ms = artifact.history_times_ms[span].max()
        for p in range(span.start, span.stop):
            if artifact.history_types[p] == PURCHASE:
                age_days = (last_ms - artifact.history_times_ms[p]) / 86_400_000
                lift = boost * np.log1p(artifact.history_weights[p]) * np.exp(-age_days / 40.0)
                total[artifact.item_ids.id(int(artifact.history_items[p]))] += float(lift)
        answer = ask(recommender, user_id=user, limit=12)
        assert answer.item_ids == sorted(total, key=lambda item: -total[item])[:12]
        assert len(set(ask(recommender, user_id=user, limit=n).rows)) == n
        bought = {item for item, score in zip(plain, scores.tolist(), strict=True) if total[item] != score}
        without = ask(recommender, user_id=user, limit=n, exclude_purchased=True)
        assert bought.isdisjoint(without.item_ids)


@pytest.mark.parametrize("exclude_purchased", [False, True])
@pytest.mark.parametrize("d", [8, 13])
def test_a_known_user_gets_the_best_of_a_dense_computation(make: Make, d: int, exclude_purchased: bool) -> None:
    recommender = make(n_items=300, d=d, history=30)
    for user in ("u0", "u7", "u39"):
        answer = ask(recommender, user_id=user, limit=12, exclude_purchased=exclude_purchased)
        ids, scores = expected(recommender.model.artifact, user, 12, exclude_purchased=exclude_purchased)
        assert answer.item_ids == ids
        np.testing.assert_allclose(answer.scores, scores, rtol=1e-3)
        assert (answer.tier, answer.cold_start) == (EXACT, False)


def test_an_answer_does_not_depend_on_its_batch_companions(make: Make, log: EventLog) -> None:
    recommender = make(n_items=500, d=16, history=20)
    buy(log, "u3", "i1", "i2")
    buy(log, "", "i9", anonymous="tab")
    recommender.catch_up()
    queries = [
        Query(
            user_id=f"u{i}" if i % 5 else "",
            anonymous_id="tab" if i % 10 == 0 else "",
            limit=1 + 7 * (i % 9),
            exclude_purchased=[None, True, False][i % 3],
            exclude_item_ids=[f"i{j}" for j in range(0, 500, 1 + i)] if i % 4 == 0 else (),
        )
        for i in range(101)
    ]
    together = recommender.recommend(queries)
    for query, companion in zip(queries, together, strict=True):
        (alone,) = recommender.recommend([query])
        assert isinstance(alone, Answer)
        assert isinstance(companion, Answer)
        assert (alone.rows, alone.tier) == (companion.rows, companion.tier)
        assert np.array(alone.scores).tobytes() == np.array(companion.scores).tobytes()


def test_strangers_get_popular_items_and_a_flag(make: Make) -> None:
    recommender = make()
    artifact = recommender.model.artifact
    for query in ({}, {"user_id": "never-seen"}, {"anonymous_id": "never-seen"}):
        answer = ask(recommender, limit=5, **query)
        assert (answer.tier, answer.cold_start) == (POPULAR, True)
        assert answer.rows == artifact.popular_order[:5].tolist()
        np.testing.assert_array_equal(answer.scores, artifact.popularity[answer.rows])


def test_a_user_with_an_empty_history_is_cold(make: Make) -> None:
    assert ask(make(history=0), user_id="u1").cold_start


def test_a_history_of_items_that_the_artifact_does_not_know_is_cold(make: Make, log: EventLog) -> None:
    recommender = make()
    buy(log, "ann", "never-trained")
    recommender.catch_up()
    assert ask(recommender, user_id="ann").cold_start


def test_an_event_changes_the_next_answer(make: Make, log: EventLog) -> None:
    recommender = make()
    before = ask(recommender, user_id="ann")
    sequence = buy(log, "ann", "i3")
    after = ask(recommender, user_id="ann", min_sequence=sequence)
    assert before.cold_start
    assert not after.cold_start
    assert after.event_sequence == sequence
    assert "i3" not in ask(recommender, user_id="ann", limit=60, exclude_purchased=True).item_ids


def test_a_sequence_that_the_log_has_not_reached_is_refused_for_its_request_alone(make: Make, log: EventLog) -> None:
    recommender = make()
    buy(log, "ann", "i3")
    first, second, third = recommender.recommend([Query(user_id="ann", min_sequence=1), Query(min_sequence=2), Query()])
    assert isinstance(first, Answer)
    assert isinstance(second, PreconditionError)
    assert "min_sequence: got 2, expected at most 1" in str(second)
    assert isinstance(third, Answer)


def test_a_login_brings_the_visitors_history_to_the_user(make: Make, log: EventLog) -> None:
    recommender = make()
    buy(log, "", "i3", "i4", anonymous="tab")
    recommender.catch_up()
    visitor = ask(recommender, anonymous_id="tab")
    assert not visitor.cold_start
    log.append([NewEvent("login", "ann", "tab", LOGIN, "", T)])
    recommender.catch_up()
    assert ask(recommender, user_id="ann").rows == visitor.rows
    assert ask(recommender, anonymous_id="tab").cold_start


def test_user_id_wins_over_anonymous_id(make: Make) -> None:
    recommender = make()
    assert ask(recommender, user_id="u1", anonymous_id="tab").rows == ask(recommender, user_id="u1").rows


def test_the_artifacts_repeat_policy_is_the_default(make: Make) -> None:
    allow, exclude = make(repeat_policy="allow"), make(repeat_policy="exclude_purchased")
    for recommender, default in ((allow, False), (exclude, True)):
        same = ask(recommender, user_id="u5", limit=60, exclude_purchased=default)
        other = ask(recommender, user_id="u5", limit=60, exclude_purchased=not default)
        assert ask(recommender, user_id="u5", limit=60).rows == same.rows
        assert len(same.rows) != len(other.rows)


def test_a_returned_item_may_be_recommended_again(make: Make, log: EventLog) -> None:
    recommender = make()
    buy(log, "ann", "i3", "i4")
    log.append([NewEvent("back", "ann", "", 4, "i3", T)])
    recommender.catch_up()
    ids = ask(recommender, user_id="ann", limit=60, exclude_purchased=True).item_ids
    assert "i3" in ids
    assert "i4" not in ids


@pytest.mark.parametrize("who", [{"user_id": "u1"}, {}])
def test_callers_exclusions_hold_and_unknown_ids_are_ignored(make: Make, who: dict[str, str]) -> None:
    recommender = make()
    excluded = [f"i{i}" for i in range(0, 60, 2)]
    answer = ask(recommender, limit=60, exclude_item_ids=[*excluded, "ghost"], **who)
    assert len(answer.rows) == 30
    assert not set(answer.item_ids) & set(excluded)


@pytest.mark.parametrize("who", [{"user_id": "u1"}, {}])
def test_as_many_items_as_there_are_and_no_more(make: Make, log: EventLog, who: dict[str, str]) -> None:
    recommender = make(n_items=30, repeat_policy="allow")
    log.upsert_items([CatalogItem(f"new{i}", i == 0, 0, 0, 0, {}) for i in range(5)])
    buy(log, "somebody", "only-an-event")
    recommender.catch_up()
    answer = ask(recommender, limit=1000, **who)
    assert len(answer.rows) == len(set(answer.rows)) == 34
    assert answer.item_ids[-4:] == ["new1", "new2", "new3", "new4"]
    assert answer.scores[-4:] == [0.0] * 4
    assert answer.scores[:30] == sorted(answer.scores[:30], reverse=True)


def test_purchased_new_items_are_excluded_too(make: Make, log: EventLog) -> None:
    recommender = make(n_items=10)
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {}), CatalogItem("newer", False, 0, 0, 0, {})])
    buy(log, "ann", "new")
    recommender.catch_up()
    ids = ask(recommender, user_id="ann", limit=100, exclude_purchased=True).item_ids
    assert "newer" in ids
    assert "new" not in ids


def test_everything_unavailable_gives_an_empty_slate(make: Make, log: EventLog) -> None:
    recommender = make(n_items=5)
    log.delete_items([f"i{i}" for i in range(5)], [True] * 5)
    recommender.catch_up()
    assert ask(recommender, user_id="u1").rows == []
    assert ask(recommender).rows == []


def test_an_empty_artifact_still_answers_from_the_catalog(make: Make, log: EventLog) -> None:
    recommender = make(n_users=0, n_items=0)
    recommender.warm()
    assert ask(recommender, user_id="u1").rows == []
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {})])
    recommender.catch_up()
    assert ask(recommender, user_id="u1").item_ids == ["new"]


def test_items_come_and_go_at_their_times(factories: ModuleType, log: EventLog) -> None:
    now = [T]
    recommender = Recommender(Model(factories.make_artifact(n_items=3), log), log, clock_ms=lambda: now[0])
    log.upsert_items([CatalogItem("i0", False, 0, T + 10, 0, {}), CatalogItem("i1", False, 0, 0, T + 20, {})])
    recommender.catch_up()
    shown = []
    for now[0] in (T, T + 10, T + 20):
        shown.append(set(ask(recommender).item_ids))
    assert shown == [{"i1", "i2"}, {"i0", "i1", "i2"}, {"i0", "i2"}]


def test_similar_items_are_neighbours_then_cosines(make: Make) -> None:
    recommender = make()
    artifact = recommender.model.artifact
    answer = recommender.similar("i4", 8)
    span = slice(artifact.neighbour_indptr[4], artifact.neighbour_indptr[5])
    neighbours = artifact.neighbour_items[span].tolist()
    assert answer.rows[:3] == neighbours
    norms = np.linalg.norm(artifact.item_factors, axis=1)
    cosines = artifact.item_factors @ artifact.item_factors[4] / norms / norms[4]
    allowed = np.ones(60, dtype=bool)
    allowed[[4, *neighbours]] = False
    assert answer.rows[3:] == topk.top_scores(cosines, allowed, 5)[0].tolist()
    assert answer.scores == sorted(answer.scores, reverse=True)


def test_similar_items_keep_exclusions_and_fill_up(make: Make, log: EventLog) -> None:
    recommender = make(n_items=10)
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {})])
    log.delete_items(["i1"], [True])
    recommender.catch_up()
    ids = recommender.similar("i4", 1000, ["i2", "ghost"]).item_ids
    assert sorted(ids) == sorted(["i0", "i3", "i5", "i6", "i7", "i8", "i9", "new"])
    assert ids[-1] == "new"


def test_similar_items_of_an_item_that_nobody_trained_are_popular(make: Make, log: EventLog) -> None:
    recommender = make(n_items=10)
    log.upsert_items([CatalogItem("new", False, 0, 0, 0, {})])
    recommender.catch_up()
    answer = recommender.similar("new", 3)
    assert answer.rows == recommender.model.artifact.popular_order[:3].tolist()


def test_similar_items_of_an_item_never_heard_of_are_an_error(make: Make) -> None:
    with pytest.raises(NotFoundError, match="item_id: got 'ghost'"):
        make().similar("ghost")
