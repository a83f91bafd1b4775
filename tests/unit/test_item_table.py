"""The item table: rows, masks by time, prices and attributes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.events.items import ItemChange
from headrace.ids import IdTable
from headrace.state.items import ItemTable


def change(key: int, item_id: str, **fields: int | str) -> ItemChange:
    values: dict[str, int | str] = {
        "in_catalog": 1, "unavailable": 0, "price_micros": 0, "publish_time_ms": 0, "expire_time_ms": 0,
        "attributes": "{}", "change_sequence": key,
    }  # fmt: skip
    return ItemChange(item_key=key, item_id=item_id, **(values | fields))  # type: ignore[arg-type]


def shown(table: ItemTable, now_ms: int) -> list[str]:
    return [item_id for item_id, bits in zip(table.ids, table.banned(now_ms).tolist(), strict=True) if not bits]


def make_table() -> ItemTable:
    return ItemTable(IdTable.build(["tea", "cup"]))


def test_artifact_items_are_shown_until_the_catalog_says_otherwise() -> None:
    table = make_table()
    assert shown(table, 5) == ["tea", "cup"]
    table.apply([change(1, "tea", unavailable=1)])
    assert shown(table, 5) == ["cup"]
    table.apply([change(1, "tea", unavailable=0, change_sequence=2)])
    assert shown(table, 5) == ["tea", "cup"]


def test_items_unknown_to_the_artifact_are_shown_only_from_the_catalog() -> None:
    table = make_table()
    table.apply([change(1, "event-only", in_catalog=0), change(2, "new")])
    assert list(table.ids) == ["tea", "cup", "event-only", "new"]
    assert [table.rows.find(item_id) for item_id in (*table.ids, "none")] == [0, 1, 2, 3, -1]
    assert shown(table, 5) == ["tea", "cup", "new"]


def test_publish_and_expire_times_bound_the_mask() -> None:
    table = make_table()
    table.apply([change(1, "tea", publish_time_ms=10), change(2, "cup", expire_time_ms=20)])
    assert shown(table, 9) == ["cup"]
    assert shown(table, 10) == ["tea", "cup"]
    assert shown(table, 19) == ["tea", "cup"]
    assert shown(table, 20) == ["tea"]
    assert shown(table, 9) == ["cup"]  # time may also go back


def test_the_mask_is_kept_between_two_moments_of_change() -> None:
    table = make_table()
    table.apply([change(1, "tea", publish_time_ms=10, expire_time_ms=20)])
    assert table.banned(10) is table.banned(19)
    assert table.banned(19) is not table.banned(20)


def test_prices_attributes_and_keys_follow_changes() -> None:
    table = make_table()
    table.apply([change(5000, "cup", price_micros=7, attributes='{"name": "Cup"}'), change(5001, "mug")])
    assert [table.rows.price(row) for row in range(3)] == [0, 7, 0]
    assert table.attributes == {1: {"name": "Cup"}}
    assert table.rows_of_keys([5000, 5001]).tolist() == [1, 2]  # type: ignore[arg-type]
    assert table.change_sequence == 5001


def test_many_new_items_grow_the_table() -> None:
    table = make_table()
    table.apply([change(key, f"n{key}") for key in range(1, 3000)])
    assert table.n_rows == 3001
    assert len(table.banned(5)) == 3001
    assert table.rows.find("n2999") == 3000


def test_rows_do_not_depend_on_when_a_process_looked() -> None:
    early, late = make_table(), make_table()
    early.apply([change(1, "a", change_sequence=1)])
    early.apply([change(2, "b", change_sequence=2)])
    early.apply([change(1, "a", price_micros=3, change_sequence=3)])
    late.apply([change(1, "a", price_micros=3, change_sequence=3), change(2, "b", change_sequence=2)])
    assert early.ids == late.ids
    assert early.rows.price(2) == late.rows.price(2) == 3


def test_a_change_leaves_the_mask_that_others_hold_and_makes_the_next_one_right() -> None:
    table = make_table()
    table.apply([change(1, "tea", publish_time_ms=10)])
    held = table.banned(15)
    table.apply([change(2, "cup", expire_time_ms=18), change(3, "mug", publish_time_ms=12), change(4, "pot")])
    assert len(held) == 2
    assert not held.any()
    assert shown(table, 15) == ["tea", "cup", "mug", "pot"]
    assert shown(table, 18) == ["tea", "mug", "pot"]
    assert shown(table, 11) == ["tea", "cup", "pot"]
    assert shown(table, 9) == ["cup", "pot"]


@given(st.lists(st.tuples(st.integers(0, 5), *[st.integers(0, 4)] * 3, st.integers(0, 6)), max_size=12))
def test_the_mask_says_what_each_item_says(steps: list[tuple[int, int, int, int, int]]) -> None:
    table, now = make_table(), dict[str, tuple[int, int, int]]()
    for key, unavailable, publish, expire, moment in steps:
        item_id = f"i{key}"
        fields = {"unavailable": unavailable % 2, "publish_time_ms": publish, "expire_time_ms": expire}
        table.apply([change(key + 1, item_id, **fields)])
        now[item_id] = (unavailable % 2, publish, expire)
        wanted = {name for name, (gone, start, end) in now.items() if not gone and start <= moment < (end or 99)}
        assert set(shown(table, moment)) == wanted | {"tea", "cup"}
