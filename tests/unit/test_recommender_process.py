"""A recommender among others: slates on record, models swapped under load, processes that follow one log."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from headrace.bidding.people import KnownPeople
from headrace.events.items import CatalogItem
from headrace.events.log import EventLog, NewEvent
from headrace.events.schema import PURCHASE
from headrace.events.store import Store
from headrace.recommend import slates
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Query, Recommender

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


def test_every_slate_has_an_id_of_its_own_and_is_stored_with_positions(make: Make, log: EventLog) -> None:
    recommender = make()
    buy(log, "ann", "i3")
    recommender.catch_up()
    answers = [ask(recommender, user_id="ann", limit=3, surface="home"), ask(recommender), recommender.similar("i1", 2)]
    recommender.close()
    stored = {row[0]: row[1:] for row in log.store.read("SELECT * FROM slates")}
    assert len(stored) == 3
    first = stored[answers[0].request_id]
    assert first[:5] == (T, log.subject("ann")[0], "made", EXACT, "home")
    assert first[5] == str(answers[0].item_ids).replace("'", '"')
    assert stored[answers[1].request_id][1] == 0


def test_slates_are_kept_for_as_long_as_was_asked(log: EventLog, factories: ModuleType) -> None:
    now = [T]
    model = Model(factories.make_artifact(), log)
    recommender = Recommender(model, log, clock_ms=lambda: now[0], keep_slates_ms=1000)
    for now[0] in (T, T + 1000, T + 1001):
        ask(recommender)
        stored = recommender.slates.flush()
        assert stored is not None
        stored.result()
    recommender.close()
    assert log.store.read("SELECT time_ms FROM slates ORDER BY time_ms") == [(T + 1000,), (T + 1001,)]


def test_slates_never_wait_for_room(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slates, "MAX_WAITING", 2)
    recommender = make()
    for n in (1, 2, 1, 1):  # those of one batch wait, or are dropped, together
        recommender.recommend([Query()] * n)
    assert recommender.slates.n_dropped == 3


def test_a_store_that_refuses_slates_does_not_stop_answers(make: Make, log: EventLog) -> None:
    recommender = make()
    log.store.write(lambda connection: connection.execute("DROP TABLE slates"))
    ask(recommender)
    recommender.close()
    assert recommender.slates.n_dropped == 1
    assert ask(recommender).rows


def test_a_swap_keeps_events_and_ends_batches_on_the_old_model(
    make: Make, log: EventLog, factories: ModuleType
) -> None:
    recommender = make()
    sequence = buy(log, "ann", "i3")
    recommender.catch_up()
    old = recommender.model
    new = Model(factories.make_artifact(seed=1, version="next"), log)
    late = buy(log, "ann", "i4")
    recommender.swap(new)
    answer = ask(recommender, user_id="ann", limit=60, exclude_purchased=True)
    assert answer.model.version == "next"
    assert answer.event_sequence == late > sequence
    assert not {"i3", "i4"} & set(answer.item_ids)
    assert old.users.sequence == sequence


def test_answers_go_on_while_models_are_swapped(make: Make, log: EventLog, factories: ModuleType) -> None:
    recommender = make()
    versions = ["made"] + [f"v{i}" for i in range(4)]
    models = [Model(factories.make_artifact(seed=i, version=v), log) for i, v in enumerate(versions[1:])]
    wanted = {}
    for model in (recommender.model, *models):
        wanted[model.version] = ask(Recommender(model, log, clock_ms=lambda: T), user_id="u1").rows
    answers: list[Answer] = []
    done = threading.Event()

    def keep_asking() -> None:
        while not done.is_set():
            answers.extend(answer for answer in recommender.recommend([Query(user_id="u1")] * 3) if answer)  # type: ignore[misc]

    threads = [threading.Thread(target=keep_asking) for _ in range(2)]
    for thread in threads:
        thread.start()
    for model in models:
        recommender.swap(model)
    done.set()
    for thread in threads:
        thread.join()
    assert all(answer.rows == wanted[answer.model.version] for answer in answers)
    assert ask(recommender, user_id="u1").model.version == "v3"


def test_a_second_process_follows_log_and_catalog(factories: ModuleType, log: EventLog, tmp_path: Path) -> None:
    artifact = factories.make_artifact()
    other_store = Store(tmp_path / "log.sqlite")
    other_log = EventLog(other_store)
    here = Recommender(Model(artifact, log), log, clock_ms=lambda: T)
    there = Recommender(Model(artifact, other_log), other_log, clock_ms=lambda: T)
    buy(log, "ann", "i3", "brand-new")
    buy(other_log, "ann", "i4")
    log.upsert_items([CatalogItem("brand-new", False, 5, 0, 0, {"name": "New"})])
    log.delete_items(["i8"], [True])
    assert here.catch_up() == there.catch_up() == 3
    for who in ({"user_id": "ann"}, {}):
        a, b = (ask(each, limit=100, **who) for each in (here, there))
        assert (a.item_ids, a.scores) == (b.item_ids, b.scores)
        assert "i8" not in a.item_ids
        assert "brand-new" in a.item_ids
    log.erase("ann", T)
    there.catch_up()
    assert ask(there, user_id="ann").cold_start
    other_store.close()


def test_the_follower_thread_sees_what_another_process_wrote(
    factories: ModuleType, log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.recommend.recommender.FOLLOW_INTERVAL_S", 0.001)
    seen = threading.Event()
    recommender = Recommender(Model(factories.make_artifact(), log), log, clock_ms=lambda: T)
    users = recommender.model.users
    follow = users.catch_up

    def catch_up() -> int:
        sequence = follow()
        if sequence:
            seen.set()
        return sequence

    monkeypatch.setattr(users, "catch_up", catch_up)
    recommender.start()
    store = Store(tmp_path / "log.sqlite")
    buy(EventLog(store), "ann", "i3")
    assert seen.wait(10)
    recommender.close()
    store.close()
    assert not ask(recommender, user_id="ann").cold_start


def test_bidding_reads_the_same_people(make: Make) -> None:
    recommender = make(d=13)
    model = recommender.model
    persons = KnownPeople(model).read(["u1", "", "nobody"], T)
    people = model.users.gather(["u1"], T)
    assert persons.embeddings.shape == (3, 13)
    assert not persons.embeddings[1:].any()
    wanted = model.fold_in(*model.fold_in_input(people.merged))[0, :13]
    np.testing.assert_array_equal(persons.embeddings[0], wanted)
    assert persons.history.indptr.tolist() == [0, 10, 10, 10]
    assert len(persons.banned) == 60
