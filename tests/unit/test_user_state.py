"""Online state: a function of artifact and log, whoever asked what before."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace.artifacts import Artifact
from headrace.events.log import EventLog, NewEvent
from headrace.events.schema import LOGIN, PURCHASE, RETURN, VIEW
from headrace.events.store import Store
from headrace.state.items import ItemTable
from headrace.state.users import UserState

T = 1_700_000_000_000

History = dict[str, tuple[float, float, int]]


def state_of(artifact: Artifact, log: EventLog, **options: Any) -> UserState:
    state = UserState(artifact, log, ItemTable(artifact.item_ids), **options)
    state.catch_up()
    return state


def history(state: UserState, name: str) -> History:
    """Weight, purchases and last time by item id."""
    people = state.gather([name], T)
    merged = people.merged
    columns = zip(merged.rows, merged.weights, merged.n_bought, merged.last_ms, strict=False)
    last = int(merged.indptr[1])
    return {state.items.ids[r]: (float(w), float(b), int(t)) for r, w, b, t in list(columns)[:last]}


class Events:
    """Writes events with ids and times of its own."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.count = 0

    def __call__(self, user: str, item: str, kind: int = PURCHASE, anonymous: str = "") -> int:
        self.count += 1
        return self.log.append([NewEvent(f"e{self.count}", user, anonymous, kind, item, T + self.count)]).sequence


def own(factories: ModuleType, log: EventLog, sequence: int, **options: Any) -> Artifact:
    """An artifact that was trained on this log up to a sequence."""
    artifact: Artifact = factories.make_artifact(log_id=log.log_id, log_sequence=sequence, **options)
    return artifact


def test_events_after_the_artifact_join_its_history(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    record("u1", "i0")
    artifact = own(factories, log, 1)
    before = history(state_of(artifact, log), "u1")
    assert len(before) == 10
    fresh = next(f"i{i}" for i in range(60) if f"i{i}" not in before)
    state = state_of(artifact, log)
    record("u1", fresh)
    record("u1", fresh, VIEW)
    assert fresh not in history(state, "u1")
    assert state.catch_up() == 3
    assert history(state, "u1") == before | {fresh: (1.25, 1.0, T + 3)}


def test_events_inside_the_artifact_are_not_added_again(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    for _ in range(3):
        record("u1", "i0")
    inside, outside = own(factories, log, 3), own(factories, log, 2)
    n_inside = state_of(inside, log).gather(["u1"], T).merged.n_events[0]
    n_outside = state_of(outside, log).gather(["u1"], T).merged.n_events[0]
    assert n_outside == n_inside + 1


def test_another_logs_artifact_gets_all_events(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    record("u1", "i0")
    record("stranger", "i3")
    state = state_of(factories.make_artifact(log_sequence=99), log)
    assert len(history(state, "u1")) >= 10
    assert history(state, "stranger") == {"i3": (1.0, 1.0, T + 2)}
    assert state.sequence == 2


def test_strangers_and_empty_names_have_no_history(factories: ModuleType, log: EventLog) -> None:
    state = state_of(factories.make_artifact(), log)
    people = state.gather(["nobody", ""], T)
    assert people.merged.indptr.tolist() == [0, 0, 0]
    assert people.subject_keys == [0, 0]
    assert not state.knows("nobody")
    assert state.knows("u1")


def test_a_return_takes_a_purchase_back_whichever_came_first(factories: ModuleType, log: EventLog) -> None:
    record, state = Events(log), state_of(factories.make_artifact(), log)
    for item, kinds in {"i1": [PURCHASE, RETURN], "i2": [RETURN, PURCHASE], "i3": [PURCHASE, PURCHASE, RETURN]}.items():
        for kind in kinds:
            record("ann", item, kind)
    record("ann", "i4", VIEW)
    record("ann", "i4", RETURN)
    state.catch_up()
    found = {item: values[:2] for item, values in history(state, "ann").items()}
    assert found == {"i1": (0.0, 0.0), "i2": (0.0, 0.0), "i3": (1.0, 1.0), "i4": (0.25, 0.0)}


def test_items_that_nobody_trained_are_kept_for_the_masks(factories: ModuleType, log: EventLog) -> None:
    record, state = Events(log), state_of(factories.make_artifact(), log)
    record("ann", "never-seen")
    state.catch_up()
    assert history(state, "ann") == {"never-seen": (1.0, 1.0, T + 1)}


def test_a_login_moves_the_visitors_history(factories: ModuleType, log: EventLog) -> None:
    record, state = Events(log), state_of(factories.make_artifact(), log)
    record("", "i1", anonymous="tab")
    record("", "i2", VIEW, anonymous="tab")
    record("ann", "i2")
    state.catch_up()
    assert set(history(state, "\0tab")) == {"i1", "i2"}
    record("ann", "", LOGIN, anonymous="tab")
    record("", "i5", anonymous="tab")
    state.catch_up()
    assert history(state, "\0tab") == {"i5": (1.0, 1.0, T + 5)}
    assert history(state, "ann") == {"i2": (1.25, 1.0, T + 3), "i1": (1.0, 1.0, T + 1)}


def test_a_login_moves_what_the_artifact_knows_of_the_visitor(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    record("", "i1", anonymous="tab")
    artifact = own(factories, log, 1, user_ids=["\0tab"], n_users=1)
    known = history(state_of(artifact, log), "\0tab")
    assert len(known) == 10
    record("ann", "", LOGIN, anonymous="tab")
    state = state_of(artifact, log)
    assert history(state, "\0tab") == {}
    assert history(state, "ann") == known


def test_the_oldest_views_give_way_and_purchases_stay(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    for i in range(5):
        record("ann", f"i{i}")
    for i in range(10, 20):
        record("ann", f"i{i}", VIEW)
    state = state_of(factories.make_artifact(), log, max_history=3)
    assert list(history(state, "ann")) == ["i0", "i1", "i2", "i3", "i4", "i17", "i18", "i19"]


def test_state_does_not_depend_on_when_it_looked_at_the_log(factories: ModuleType, log: EventLog) -> None:
    rng = np.random.default_rng(5)
    record, artifact = Events(log), factories.make_artifact()
    follower = state_of(artifact, log)
    names = [f"u{i}" for i in range(6)] + [f"n{i}" for i in range(6)]
    for step in range(300):
        user = names[rng.integers(12)]
        record(user, f"i{rng.integers(70)}", int(rng.choice([VIEW, PURCHASE, RETURN])), anonymous=f"a{rng.integers(3)}")
        if step % 37 == 0:
            record(user, "", LOGIN, anonymous=f"a{rng.integers(3)}")
        if step % 90 == 50:
            log.erase(names[rng.integers(12)], T)
        if step % 11 == 0:
            follower.catch_up()
            follower.gather(names, T)
    follower.catch_up()
    replayed = state_of(artifact, log)
    everyone = [*names, "\0a0", "\0a1", "\0a2"]
    assert follower.sequence == replayed.sequence
    for name in everyone:
        assert list(history(follower, name).items()) == list(history(replayed, name).items())


def test_erasure_forgets_log_and_artifact_here_in_a_follower_and_after_replay(
    factories: ModuleType, log: EventLog, tmp_path: Path
) -> None:
    record = Events(log)
    record("u1", "i0")
    record("u2", "i0")
    artifact = own(factories, log, 2)
    record("u1", "i5")
    state, other_store = state_of(artifact, log), Store(tmp_path / "log.sqlite")
    follower = state_of(artifact, EventLog(other_store))
    assert history(state, "u1")
    assert history(follower, "u1")
    untouched = history(state, "u2")
    log.erase("u1", T)
    for each in (state, follower, state_of(artifact, log)):
        each.catch_up()
        assert history(each, "u1") == {}
        assert not each.knows("u1")
        assert history(each, "u2") == untouched
    other_store.close()


def test_who_was_erased_and_comes_back_starts_from_nothing(factories: ModuleType, log: EventLog) -> None:
    record = Events(log)
    record("u1", "i0")
    artifact = own(factories, log, 1)
    follower = state_of(artifact, log)
    assert len(history(follower, "u1")) == 10
    log.erase("u1", T)
    record("u1", "i7")
    for state in (follower, state_of(artifact, log)):
        state.catch_up()
        assert history(state, "u1") == {"i7": (1.0, 1.0, T + 2)}


@pytest.mark.parametrize("asked_before", [False, True])
def test_erasure_of_someone_whom_only_a_foreign_artifact_knows(
    factories: ModuleType, log: EventLog, asked_before: bool
) -> None:
    artifact = factories.make_artifact()
    follower = state_of(artifact, log)
    if asked_before:
        assert len(history(follower, "u1")) == 10
    assert log.erase("u1", T, even_unknown=True) is False
    Events(log)("u1", "i7")
    for state in (follower, state_of(artifact, log)):
        state.catch_up()
        assert history(state, "u1") == {"i7": (1.0, 1.0, T + 1)}
        assert len(history(state, "u2")) == 10


def test_the_arena_grows_and_repacks(factories: ModuleType, log: EventLog) -> None:
    artifact = factories.make_artifact(n_items=600)
    events = [
        NewEvent(f"{user}-{i}", f"n{user}", "", PURCHASE, f"i{(user + i) % 600}", T + i)
        for i in range(60)
        for user in range(300)
    ]
    follower = state_of(artifact, log)
    for first in range(0, len(events), 1000):
        log.append(events[first : first + 1000])
        follower.catch_up()
    for user in (0, 1, 150, 299):
        found = history(follower, f"n{user}")
        assert list(found) == [f"i{(user + i) % 600}" for i in range(60)]
