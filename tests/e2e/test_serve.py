"""A real server process: recommendations, events, catalog, artifacts, restarts."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, errors
from headrace.client import Slate, Tier
from headrace.v1 import catalog_pb2, events_pb2, recommender_pb2

NOW_MS = time.time_ns() // 1_000_000


def purchase(event_id: str, item_id: str, **who: str) -> events_pb2.Event:
    return events_pb2.Event(
        event_id=event_id, item_id=item_id, type=events_pb2.EVENT_TYPE_PURCHASE, time_ms=NOW_MS, **who
    )


def ids(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.01)


def test_recommend_and_what_changes_it(client: Client) -> None:
    known = client.recommend("u1", limit=5)
    assert (len(known.items), known.tier, known.cold_start) == (5, Tier.EXACT, False)
    assert known.artifact_version == "v1"

    stranger = client.recommend("nobody")
    assert (len(stranger.items), stranger.tier, stranger.cold_start) == (20, Tier.POPULAR, True)

    best = ids(known)[0]
    told = client.record_events([purchase("e1", best, user_id="u1"), purchase("e2", "i3", user_id="nobody")])
    assert (told.accepted, told.duplicates) == (2, 0)
    no_repeats = recommender_pb2.REPEAT_POLICY_EXCLUDE_PURCHASED
    after = client.recommend("u1", limit=5, min_sequence=told.sequence, repeat_policy=no_repeats)
    assert after.event_sequence >= told.sequence
    assert best not in ids(after)
    assert not client.recommend("nobody").cold_start

    again = client.record_events([purchase("e1", best, user_id="u1")])
    assert (again.accepted, again.duplicates) == (0, 1)


def test_catalog_changes_reach_answers_at_once(client: Client) -> None:
    best, second = ids(client.recommend("u2", limit=2))
    client.upsert_items([catalog_pb2.Item(item_id=best, unavailable=True)])
    assert best not in ids(client.recommend("u2", limit=60))
    client.upsert_items([catalog_pb2.Item(item_id=best, price_micros=5_000_000, attributes={"name": "Tea"})])
    item = client.recommend("u2", limit=1, include_attributes=True).items[0]
    assert (item.item_id, item.price_micros, item.attributes) == (best, 5_000_000, {"name": "Tea"})
    assert client.delete_items([second, "never heard of"]).deleted == 1
    assert second not in ids(client.recommend("u2", limit=60))
    assert ids(client.similar_items("i1", limit=3))


def test_login_moves_the_history_to_the_user(client: Client) -> None:
    client.record_events([purchase("of the browser", "i7", anonymous_id="browser")])
    before = client.recommend("newcomer")
    assert before.cold_start
    login = events_pb2.Event(
        event_id="login", user_id="newcomer", anonymous_id="browser", type=events_pb2.EVENT_TYPE_LOGIN, time_ms=NOW_MS
    )
    client.record_events([login])
    assert not client.recommend("newcomer").cold_start
    assert client.recommend(anonymous_id="browser").cold_start


def test_bad_input_is_told_and_loses_nothing(client: Client) -> None:
    for bad in (lambda: client.recommend("u1", limit=0), lambda: client.recommend("u1", limit=1001)):
        with pytest.raises(errors.InvalidRequestError, match="limit"):
            bad()
    event = purchase("wrong", "i1", user_id="u3")
    event.quantity = float("nan")
    with pytest.raises(errors.InvalidRequestError, match=r"events\[1\]\.quantity"):
        client.record_events([purchase("right", "i1", user_id="u3"), event])
    assert client.record_events([purchase("right", "i1", user_id="u3")]).accepted == 1
    with pytest.raises(errors.PreconditionError, match="min_sequence"):
        client.recommend("u1", min_sequence=10**12)


def test_erased_person_is_a_stranger(start: Any) -> None:
    server = start()
    server.client.record_events([purchase("e1", "i7", user_id="shopper")])
    assert not server.client.recommend("shopper").cold_start
    assert server.client.erase_person("shopper").erased
    assert server.client.recommend("shopper").cold_start
    assert server.stop() == 0
    assert start().client.recommend("shopper").cold_start


def test_swapping_artifacts_under_load_loses_no_call(start: Any) -> None:
    server = start()
    versions: set[str] = set()
    failures: list[BaseException] = []
    over = threading.Event()

    def hammer() -> None:
        with Client(server.address) as client:
            while not over.is_set():
                try:
                    slate = client.within(10).recommend("u3", limit=10)
                    assert len(slate.items) == 10
                    versions.add(slate.artifact_version)
                except BaseException as error:
                    failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for swap in range(20):
        wanted = "v1" if swap % 2 else "v2"
        answer = server.client.reload_artifact(wanted)
        assert answer.changed
        assert answer.artifact.version == wanted
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert versions == {"v1", "v2"}


def test_artifact_that_cannot_be_served_leaves_the_old_one(start: Any, artifacts: Path) -> None:
    server = start()
    with pytest.raises(errors.NotFoundError, match="v3"):
        server.client.reload_artifact("v3")
    with pytest.raises(errors.NotFoundError):
        server.client.reload_artifact("../versions/v2")
    factors = artifacts / "versions" / "v2" / "item_factors.npy"
    factors.write_bytes(factors.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(errors.ArtifactCorruptError, match="item_factors"):
        server.client.reload_artifact("v2")
    assert server.client.current_artifact().artifact.version == "v1"
    assert server.client.recommend("u1").artifact_version == "v1"


def test_sighup_swaps_to_the_published_version(start: Any, artifacts: Path) -> None:
    from headrace.artifacts import ArtifactStore

    server = start()
    ArtifactStore(artifacts).publish("v2")
    server.send(signal.SIGHUP)
    wait_until(lambda: server.client.current_artifact().artifact.version == "v2")


def test_no_acknowledged_event_is_lost_by_kill_9(start: Any) -> None:
    server = start()
    told = [server.client.record_events([purchase(f"e{n}", f"i{n}", user_id="keeper")]) for n in range(20)]
    assert server.stop(signal.SIGKILL) == -signal.SIGKILL
    client: Client = start().client
    again = client.record_events([purchase(f"e{n}", f"i{n}", user_id="keeper") for n in range(20)])
    assert (again.accepted, again.duplicates) == (0, 20)
    assert again.sequence == told[-1].sequence
    no_repeats = recommender_pb2.REPEAT_POLICY_EXCLUDE_PURCHASED
    slate = client.recommend("keeper", limit=60, repeat_policy=no_repeats)
    assert not {f"i{n}" for n in range(20)} & set(ids(slate))
    assert len(slate.items) == 40


def test_sigterm_finishes_calls_in_flight_and_exits_0(start: Any) -> None:
    server = start()
    over = threading.Event()
    failures: list[BaseException] = []

    def record() -> None:
        n = 0
        with Client(server.address) as client:
            while not over.is_set():
                n += 1
                try:
                    client.within(0.5).record_events([purchase(f"{threading.get_ident()}-{n}", "i1", user_id="u1")])
                except (errors.UnavailableError, errors.DeadlineError):
                    return  # nobody took it before the deadline, so it was not acknowledged
                except BaseException as error:
                    failures.append(error)
                    return

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.client.recommend("u1").event_sequence > 20)
    assert server.stop() == 0
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_second_process_on_one_port_takes_over_without_a_failed_recommendation(start: Any) -> None:
    first = start()
    second = start(listen=first.address)
    assert second.address == first.address
    told = first.client.record_events([purchase("e1", "i7", user_id="mover")])
    wait_until(lambda: not second.client.recommend("mover", min_sequence=told.sequence).cold_start)
    failures: list[BaseException] = []
    over = threading.Event()

    def hammer() -> None:
        with Client(first.address) as client:
            while not over.is_set():
                try:
                    client.within(5).recommend("mover", limit=3)
                except BaseException as error:
                    failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert first.stop() == 0
    assert second.client.recommend("mover").event_sequence >= told.sequence
    over.set()
    for thread in threads:
        thread.join()
    assert failures == []
