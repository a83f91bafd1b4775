"""A blended artifact behind the recommender: histories, events and sessions move the answer as the dense sum says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.artifact_format import BlendTerms
from headrace.artifacts import Artifact
from headrace.events.log import EventLog, NewEvent
from headrace.events.schema import VIEW
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace.reference.blend import PlainBlend, blend_additions

N = 60
EXACT, POPULAR = 1, 3

Make = Callable[..., Recommender]


def links(seed: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Five random links an item, dense and in rows."""
    rng = np.random.default_rng(seed)
    dense = np.zeros((N, N), np.float32)
    for row in range(N):
        dense[row, rng.permutation(N)[:5]] = rng.random(5)
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, np.arange(N + 1)).astype(np.int64)
    return dense, (indptr, columns.astype(np.int32), dense[rows, columns])


ITEMS, SESSION, DECAY = links(1), links(2), np.array([1.0, 0.5], np.float32)
TERMS = BlendTerms(
    item_weight=0.7, new_item_weight=0.1, power=0.5, half_life_days=3.0, length_power=0.5, session_weight=50.0
)
NO_SESSION = msgspec.structs.replace(TERMS, session_weight=0.0)


def blended(artifact: Artifact, terms: BlendTerms) -> Artifact:
    arrays: dict[str, Any] = {}
    for kind, (_, parts) in (("item", ITEMS), ("session", SESSION)):
        arrays |= dict(zip((f"{kind}_link_{part}" for part in ("indptr", "items", "weights")), parts, strict=True))
    manifest = msgspec.structs.replace(artifact.manifest, blend=terms)
    return dataclasses.replace(artifact, manifest=manifest, session_decay=DECAY, **arrays)


def ask(recommender: Recommender, **query: Any) -> Answer:
    (answer,) = recommender.recommend([Query(**query)])
    assert isinstance(answer, Answer), answer
    return answer


def dense_scores(recommender: Recommender, user: str, terms: BlendTerms) -> np.ndarray:
    """What every item should score, from the user's merged history."""
    model, now_ms = recommender.model, recommender.clock_ms()
    merged = model.users.gather([user], now_ms).merged
    vector = model.embeddings.of(*model.fold_in_input(merged))[0]
    factors = model.artifact.item_factors
    plain = PlainBlend(ITEMS[0], SESSION[0], DECAY, terms)
    return factors @ vector[: factors.shape[1]] + blend_additions(plain, merged, 0, now_ms)


@pytest.mark.parametrize("terms", [TERMS, NO_SESSION])
def test_a_history_and_its_latest_events_score_as_the_dense_sum(
    make: Make, factories: ModuleType, log: EventLog, terms: BlendTerms
) -> None:
    recommender = make(blended(factories.make_artifact(n_items=N), terms))
    now = recommender.clock_ms()
    events = [NewEvent(f"e{i}", "u3", "", VIEW, f"i{i}", now - 1000 * (9 - i)) for i in range(4)]
    log.append(events)
    recommender.catch_up()
    for user in ("u0", "u3"):
        answer, scores = ask(recommender, user_id=user, limit=N), dense_scores(recommender, user, terms)
        np.testing.assert_allclose(answer.scores, np.sort(scores)[::-1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores[answer.rows], answer.scores, rtol=1e-4, atol=1e-5)
        assert answer.tier == EXACT


def test_a_view_of_this_minute_leads_on_and_one_of_an_hour_ago_does_not(
    make: Make, factories: ModuleType, log: EventLog
) -> None:
    recommender = make(blended(factories.make_artifact(n_items=N), TERMS))
    next_item = f"i{int(np.argmax(SESSION[0][7]))}"
    now = recommender.clock_ms()
    log.append([NewEvent("old", "later", "", VIEW, "i7", now - 3_600_000), NewEvent("new", "now", "", VIEW, "i7", now)])
    recommender.catch_up()
    assert ask(recommender, user_id="now", limit=1).item_ids == [next_item]
    assert max(ask(recommender, user_id="later", limit=N).scores) < 10


def test_items_of_the_session_count_as_views_just_now_for_this_answer_alone(
    make: Make, factories: ModuleType, log: EventLog
) -> None:
    recommender = make(blended(factories.make_artifact(n_items=N), TERMS))
    before = ask(recommender, user_id="u5", limit=N)
    told = ask(recommender, user_id="u5", limit=N, session_item_ids=["i9", "ghost", "i7"])
    stranger = ask(recommender, limit=N, session_item_ids=["i9", "i7"])
    assert told.rows[0] == stranger.rows[0] == int(np.argmax(SESSION[0][7] + SESSION[0][9] / 2))
    assert (stranger.tier, ask(recommender).tier) == (EXACT, POPULAR)
    again = ask(recommender, user_id="u5", limit=N)
    assert (again.rows, again.scores) == (before.rows, before.scores)
    now = recommender.clock_ms()
    log.append([NewEvent(f"e{item}", "u5", "", VIEW, item, now - i) for i, item in ((1, "i9"), (0, "i7"))])
    recommender.catch_up()
    recorded = ask(recommender, user_id="u5", limit=N)
    assert recorded.rows == told.rows
    np.testing.assert_allclose(recorded.scores, told.scores, rtol=1e-5)


def test_an_item_seen_twice_in_a_session_counts_where_it_was_seen_last(make: Make, factories: ModuleType) -> None:
    recommender = make(blended(factories.make_artifact(n_items=N), TERMS))
    answer = ask(recommender, limit=1, session_item_ids=["i7", "i9", "i7"])
    assert answer.rows == [int(np.argmax(SESSION[0][7] + SESSION[0][9] / 2))]


def test_where_views_weigh_nothing_a_session_still_counts(make: Make, factories: ModuleType) -> None:
    artifact = factories.make_artifact(n_items=N, event_weights={"purchase": 1.0})
    recommender = make(blended(artifact, TERMS))
    assert ask(recommender, limit=1, session_item_ids=["i7"]).rows == [int(np.argmax(SESSION[0][7]))]


def test_exclusions_hold_for_what_the_blend_adds(make: Make, factories: ModuleType) -> None:
    recommender = make(blended(factories.make_artifact(n_items=N), TERMS))
    first = ask(recommender, limit=1, session_item_ids=["i7"]).item_ids
    second = ask(recommender, limit=N, session_item_ids=["i7"], exclude_item_ids=first)
    assert first[0] not in second.item_ids
    assert len(second.rows) == N - 1


def test_a_swap_brings_the_blend_and_takes_it_away(make: Make, factories: ModuleType, log: EventLog) -> None:
    plain = factories.make_artifact(n_items=N)
    recommender = make(plain)
    before = ask(recommender, user_id="u1", limit=N)
    recommender.swap(Model(blended(plain, TERMS), log))
    during = ask(recommender, user_id="u1", limit=N)
    recommender.swap(Model(plain, log))
    after = ask(recommender, user_id="u1", limit=N)
    assert during.scores != before.scores
    assert (after.rows, after.scores) == (before.rows, before.scores)
