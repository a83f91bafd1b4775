"""The event log: idempotence, bulk columns, logins for training, erasure, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import DataError
from headrace.events.identity import erasure_mark
from headrace.events.items import CatalogItem
from headrace.events.log import EventLog, NewEvent, Slate
from headrace.events.schema import CLICK, ERASE, LOGIN, PURCHASE, VIEW
from headrace.events.store import Store

T = 1_700_000_000_000


def event(event_id: str, user: str = "", item: str = "i", kind: int = PURCHASE, **fields: Any) -> NewEvent:
    values: dict[str, Any] = {"anonymous_id": "", "time_ms": T} | fields
    return NewEvent(event_id, user, item_id=item, type=kind, **values)


def columns(**fields: Any) -> dict[str, Any]:
    return {
        "user_ids": ["a", "b", "a"],
        "item_ids": ["x", "x", "y"],
        "times_ms": np.array([T, T + 1, T + 2]),
        "types": np.array([PURCHASE, VIEW, CLICK], dtype=np.int8),
        "quantities": np.array([1.0, 2.0, 1.0]),
        "prices_micros": np.array([100, 0, 5]),
        "channels": ["shop", "", "live"],
    } | fields


def test_an_event_id_counts_once_and_a_duplicate_creates_nothing(log: EventLog) -> None:
    assert log.append([event("e1", "ann", "tea"), event("e2", "bob", "tea")]) == (2, 2, 0)
    assert log.append([event("e1", "someone-else", "new"), event("e3", "ann", "cup")])[1:] == (1, 1)
    assert log.append([event("e4", "ann"), event("e4", "ann")])[1:] == (1, 1)
    assert log.subject("someone-else") == (0, 0)
    assert [change.item_id for change in log.item_changes(0)] == ["tea", "cup", "i"]


def test_read_gives_columns_in_order_after_a_sequence(log: EventLog) -> None:
    log.append([event("e1", "ann", "tea", quantity=2.0, price_micros=7), event("e2", "bob", "cup", VIEW, time_ms=5)])
    everything, rest = log.read(0), log.read(1)
    assert everything.sequences.tolist() == [1, 2]
    assert rest.types.tolist() == [VIEW]
    assert rest.times_ms.tolist() == [5]
    assert everything.quantities.tolist() == [2.0, 1.0]
    assert everything.prices_micros.tolist() == [7, 0]
    assert len(log.read(0, limit=1)) == 1
    assert len(log.read(2)) == 0


def test_a_failing_append_stores_nothing(log: EventLog) -> None:
    with pytest.raises(Exception, match="NOT NULL"):
        log.append([event("e1", "ann"), event("e2", "ann", time_ms=None)])
    assert log.sequence() == 0
    assert log.subject("ann") == (0, 0)


def test_a_log_keeps_its_id(tmp_path: Path) -> None:
    first = Store(tmp_path / "a.sqlite")
    second = Store(tmp_path / "a.sqlite")
    other = Store(tmp_path / "b.sqlite")
    assert EventLog(first).log_id == EventLog(second).log_id != EventLog(other).log_id
    for store in (first, second, other):
        store.close()


def test_columns_read_twice_add_nothing(log: EventLog) -> None:
    assert log.append_columns(**columns()) == (3, 3, 0)
    assert log.append_columns(**columns())[1:] == (0, 3)
    trained = log.read_columns()
    assert [trained.user_names[i] for i in trained.user_idx] == ["a", "b", "a"]
    assert [trained.item_ids[i] for i in trained.item_idx] == ["x", "x", "y"]
    assert trained.quantities.tolist() == [1.0, 2.0, 1.0]
    assert trained.prices_micros.tolist() == [100, 0, 5]
    assert (trained.log_id, trained.log_sequence) == (log.log_id, 3)


def test_equal_rows_of_one_file_are_events_of_their_own(log: EventLog) -> None:
    twice = columns(user_ids=["a"] * 3, item_ids=["x"] * 3, channels=[""] * 3, times_ms=np.full(3, T))
    twice |= {"types": np.full(3, 3, np.int8), "quantities": np.ones(3), "prices_micros": np.zeros(3, np.int64)}
    assert log.append_columns(**twice)[1:] == (3, 0)
    assert log.append_columns(**twice)[1:] == (0, 3)


def test_a_changed_column_makes_another_event(log: EventLog) -> None:
    log.append_columns(**columns())
    for changed in (
        {"user_ids": ["c", "b", "a"]},
        {"item_ids": ["z", "x", "y"]},
        {"times_ms": np.array([T + 9, T + 1, T + 2])},
        {"types": np.array([VIEW, VIEW, CLICK], dtype=np.int8)},
        {"quantities": np.array([9.0, 2.0, 1.0])},
        {"prices_micros": np.array([101, 0, 5])},
        {"channels": ["other", "", "live"]},
    ):
        assert log.append_columns(**columns(**changed))[1:] == (1, 2)


def test_columns_may_be_arrow_or_numpy_and_bring_event_ids(log: EventLog) -> None:
    arrow = {"user_ids": pa.array(["a", "b", "a"]), "item_ids": pa.chunked_array([["x"], ["x", "y"]])}
    assert log.append_columns(**columns(**arrow, event_ids=["1", "2", "2"]))[1:] == (2, 1)
    numbers = {"user_ids": np.array([7, 8, 7]), "channels": np.array(["", "", ""])}
    assert log.append_columns(**columns(**numbers, event_ids=pa.array(["3", "4", "5"])))[1:] == (3, 0)
    assert log.subject("7")[0] != 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quantities": np.array([1.0, np.nan, 1.0])}, "column quantities, row 1: got nan, expected a finite number"),
        ({"quantities": np.array([1.0, 1.0, np.inf])}, "column quantities, row 2"),
        ({"quantities": np.array([-1.0, 1.0, 1.0])}, "column quantities, row 0: got -1.0"),
        ({"times_ms": np.array([T, 0, T])}, "column times_ms, row 1"),
        ({"types": np.array([3, 3, LOGIN], dtype=np.int8)}, "column types, row 2"),
        ({"prices_micros": np.array([0, -5, 0])}, "column prices_micros, row 1"),
        ({"user_ids": ["a", None, "b"]}, "column user_ids, row 1"),
        ({"item_ids": ["x", "", "y"]}, "column item_ids: got '', expected ids of 1 to 256 bytes"),
        ({"user_ids": ["a" * 257, "b", "c"]}, "column user_ids"),
        ({"user_ids": ["a\0", "b", "c"]}, "column user_ids"),
        ({"user_ids": ["a"]}, "differ in length"),
        ({"quantities": np.ones(2)}, "differ in length"),
        ({"event_ids": ["1", "2"]}, "differ in length"),
    ],
)
def test_bad_columns_are_refused_whole(log: EventLog, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        log.append_columns(**columns(**changed))
    assert log.sequence() == 0


def test_no_columns_at_all(log: EventLog) -> None:
    empty = columns(user_ids=[], item_ids=[], channels=[])
    empty |= {name: empty[name][:0] for name in ("times_ms", "types", "quantities", "prices_micros")}
    assert log.append_columns(**empty) == (0, 0, 0)
    assert len(log.read_columns().user_idx) == 0


def test_training_sees_a_login_as_if_the_user_had_acted_before(log: EventLog) -> None:
    log.append(
        [
            event("1", anonymous_id="tab", item="before"),
            event("2", "ann", "", LOGIN, anonymous_id="tab"),
            event("3", anonymous_id="tab", item="between"),
            event("4", "bob", "", LOGIN, anonymous_id="tab"),
            event("5", anonymous_id="tab", item="after"),
            event("6", anonymous_id="other", item="never"),
        ]
    )
    trained = log.read_columns()
    seen = [
        (trained.user_names[u], trained.item_ids[i]) for u, i in zip(trained.user_idx, trained.item_idx, strict=True)
    ]
    assert seen == [("ann", "before"), ("bob", "between"), ("\0tab", "after"), ("\0other", "never")]
    assert trained.log_sequence == 6


def test_training_stops_at_a_moment(log: EventLog) -> None:
    log.append([event("1", "ann", "a", time_ms=10), event("2", "ann", "b", time_ms=20)])
    assert log.read_columns(until_ms=20).item_ids == ["a"]


def test_erasure_cuts_every_link_and_reaches_the_disk(log: EventLog) -> None:
    log.append(
        [
            event("order-of-zebulon-1", "zebulon", "tea", request_id="slate-of-zebulon"),
            event("2", "zebulon", "", LOGIN, anonymous_id="quetzal-tablet"),
            event("3", "bob", "cup"),
        ]
    )
    assert log.erase("zebulon", T) is True
    files = [log.store.path, log.store.path.with_name(log.store.path.name + "-wal")]
    on_disk = b"".join(file.read_bytes() for file in files if file.exists())
    assert b"zebulon" not in on_disk
    assert b"quetzal" not in on_disk
    assert b"bob" in on_disk
    assert log.read_columns().user_names == ["bob"]
    assert log.read(3).types.tolist() == [ERASE, ERASE]
    assert log.erase("zebulon", T) is False
    assert log.erasures() == {erasure_mark(log.log_id, "zebulon"), erasure_mark(log.log_id, "\0quetzal-tablet")}


def test_erasing_a_stranger_changes_nothing(log: EventLog) -> None:
    assert log.erase("nobody", T) is False
    assert log.sequence() == 0
    assert not log.erasures()


def test_who_comes_back_after_erasure_is_someone_new(log: EventLog) -> None:
    log.append([event("1", "ann", "tea")])
    key, created = log.subject("ann")
    log.erase("ann", T)
    log.append([event("2", "ann", "cup")])
    new_key, new_created = log.subject("ann")
    assert new_key != key
    assert (created, new_created) == (1, 3)
    assert log.read_columns().item_ids == ["cup"]


def test_export_holds_keys_and_no_external_id_of_people(log: EventLog, tmp_path: Path) -> None:
    log.append([event("1", "ann", "tea"), event("2", "ann", "", LOGIN, anonymous_id="tab"), event("3", "bob", "cup")])
    target = tmp_path / "events.parquet"
    assert log.export_parquet(target, until_sequence=2) == 2
    table = pq.read_table(target)
    assert table.column("sequence").to_pylist() == [1, 2]
    assert table.column("item_id").to_pylist() == ["tea", ""]
    assert table.column("type").to_pylist() == [PURCHASE, LOGIN]
    assert "ann" not in str(table.to_pydict())
    assert log.export_parquet(target, until_sequence=99) == 3


def test_catalog_rows_change_in_order(log: EventLog) -> None:
    log.append([event("1", "ann", "tea")])
    assert log.upsert_items([CatalogItem("cup", False, 5, 0, 0, {"name": "Cup"})]) == 1
    first = log.item_changes(0)
    assert [(change.item_id, change.in_catalog) for change in first] == [("tea", 0), ("cup", 1)]
    seen = max(change.change_sequence for change in first)
    assert log.item_changes(seen) == []
    assert log.delete_items(["cup", "tea", "ghost", "cup"], [False, True, False, False]) == 2
    assert {change.item_id: change.unavailable for change in log.item_changes(seen)} == {"cup": 1, "tea": 1}
    assert log.delete_items(["cup"], [False]) == 0


def test_slates_are_stored_with_their_positions(log: EventLog) -> None:
    log.append_slates([Slate("r1", T, 0, "v1", 1, "home", '["a", "b"]')]).result()
    assert log.store.read("SELECT request_id, item_ids FROM slates") == [("r1", '["a", "b"]')]


def test_old_slates_give_way_to_new_ones_the_oldest_first(log: EventLog) -> None:
    def shown(*times: int) -> list[Slate]:
        return [Slate(f"r{time}", time, 0, "v1", 1, "home", "[]") for time in times]

    def kept() -> list[int]:
        return [row[0] for row in log.store.read("SELECT time_ms FROM slates ORDER BY time_ms")]

    log.append_slates(shown(4, 1, 3, 2, 5, 6)).result()
    log.append_slates(shown(10), keep_from_ms=5).result()
    assert kept() == [3, 4, 5, 6, 10]
    log.append_slates(shown(11, 12), keep_from_ms=5).result()
    assert kept() == [5, 6, 10, 11, 12]
    log.append_slates(shown(13)).result()
    assert kept() == [5, 6, 10, 11, 12, 13]
