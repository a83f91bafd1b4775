"""Id tables: both directions, odd ids, refused ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import InvalidRequestError
from headrace.ids import IdTable, id_hash


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=12), unique=True), st.text(max_size=12))
def test_find_is_the_inverse_of_id(names: list[str], other: str) -> None:
    table = IdTable.build(names)
    assert len(table) == len(names)
    assert table.ids(range(len(names))) == names
    assert table.find_many(names).tolist() == list(range(len(names)))
    assert table.find(other) == (names.index(other) if other in names else -1)


def test_two_ids_of_one_hash_are_both_found() -> None:
    table = IdTable.build(["a", "b", "c"])
    key = np.uint64(id_hash("b"))
    clash = IdTable(table.offsets, table.blob, np.array([key, key, key]), np.array([0, 1, 2], dtype=np.int32))
    assert clash.find("b") == 1


@pytest.mark.parametrize("names", [["a", ""], ["a", "b", "a"]])
def test_empty_and_repeated_ids_are_refused(names: list[str]) -> None:
    with pytest.raises(InvalidRequestError):
        IdTable.build(names)


def test_an_index_beyond_the_table_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        IdTable.build(["a"]).id(1)
