"""Histories in the arena against their plain twin."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import _native
from headrace.kernels import history as kernels
from headrace.reference import history as reference
from headrace.state.users import new_arena

WEIGHTS = np.zeros(128, dtype=np.float32)
WEIGHTS[[1, 2, 3, 4]] = [0.25, 0.5, 1.0, 1.0]
N_ROWS = 12

EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # slot
        st.integers(0, N_ROWS - 1),
        st.sampled_from([1, 2, 3, 4]),
        st.integers(1, 50),  # time
    ),
    max_size=80,
)


def filled(events: list[tuple[int, int, int, int]], max_history: int) -> kernels.Arena:
    arena = new_arena(16 * (len(events) + 8), 4)
    columns = [np.array([event[i] for event in events]) for i in range(4)] if events else [np.zeros(0)] * 4
    slots, rows, types, times = columns
    kernels.append_events(
        arena,
        slots.astype(np.int32),
        rows.astype(np.int32),
        types.astype(np.int8),
        np.ones(len(events), dtype=np.float32),
        times.astype(np.int64),
        max_history,
    )
    return arena


def entries(arena: kernels.Arena, slot: int) -> list[reference.Entry]:
    span = range(arena.start[slot], arena.start[slot] + arena.length[slot])
    return [(int(arena.rows[p]), int(arena.types[p]), float(arena.counts[p]), int(arena.times_ms[p])) for p in span]


def expected(events: list[tuple[int, int, int, int]], slot: int, max_history: int) -> list[reference.Entry]:
    mine = [(row, kind, 1.0, time_ms) for who, row, kind, time_ms in events if who == slot]
    return reference.append_events([], mine, max_history)


@given(events=EVENTS, max_history=st.sampled_from([1, 3, 500]))
def test_entries_are_those_of_the_twin(events: list[tuple[int, int, int, int]], max_history: int) -> None:
    arena = filled(events, max_history)
    packed = new_arena(int(arena.capacity.sum()), 0)._replace(
        start=arena.start, length=arena.length, capacity=arena.capacity
    )
    before = [entries(arena, slot) for slot in range(4)]
    kernels.repack(arena, packed)
    for slot in range(4):
        assert before[slot] == expected(events, slot, max_history)
        assert entries(packed, slot) == before[slot]
    assert packed.tail[0] == arena.capacity.sum()


def artifact_part(events: list[tuple[int, int, int, int]]) -> tuple[kernels.Csr, list[list[reference.Entry]]]:
    """Histories of two users as an artifact stores them."""
    people = [expected(events, slot, 500) for slot in (0, 1)]
    flat = [entry for person in people for entry in person]
    csr = kernels.Csr(
        indptr=np.array([0, len(people[0]), len(flat)], dtype=np.int64),
        rows=np.array([entry[0] for entry in flat], dtype=np.int32),
        types=np.array([entry[1] for entry in flat], dtype=np.int8),
        weights=np.array([entry[2] * WEIGHTS[entry[1]] for entry in flat], dtype=np.float32),
        times_ms=np.array([entry[3] for entry in flat], dtype=np.int64),
    )
    return csr, people


def merged_of(csr: kernels.Csr, arena: kernels.Arena, users: list[int], slots: list[int]) -> kernels.Merged:
    size = len(csr.rows) * len(users) + int(arena.length.sum()) * len(users)
    n = len(users)
    out = kernels.Merged(
        np.zeros(n + 1, dtype=np.int64),
        np.empty(size, dtype=np.int32),
        np.empty(size, dtype=np.float32),
        np.empty(size, dtype=np.float32),
        np.empty(size, dtype=np.int64),
        np.empty(size, dtype=np.int64),
        np.zeros(n, dtype=np.float32),
        np.zeros(n, dtype=np.int64),
    )
    where = np.full(N_ROWS, -1, dtype=np.int32)
    asked = (np.array(users, dtype=np.int32), np.array(slots, dtype=np.int32))
    fresh = (arena.start, arena.length, arena.rows, arena.types, arena.counts, arena.times_ms)
    _native.gather(*csr, *fresh, *asked, WEIGHTS, where, *out)
    assert (where == -1).all()
    return out


@given(old=EVENTS, new=EVENTS, max_history=st.sampled_from([1, 2, 500]))
def test_merged_histories_and_fold_in_input(
    old: list[tuple[int, int, int, int]], new: list[tuple[int, int, int, int]], max_history: int
) -> None:
    csr, people = artifact_part(old)
    arena = filled(new, 500)
    users, slots = [0, 1, -1, 1, -1], [0, 2, 3, -1, -1]
    merged = merged_of(csr, arena, users, slots)
    size = len(merged.rows)
    indptr, rows, confidences = np.zeros(6, np.int64), np.zeros(size, np.int32), np.zeros(size, np.float32)
    columns = (merged.indptr, merged.rows, merged.weights, merged.last_ms)
    _native.fold_in_input(*columns, N_ROWS - 2, 8.0, max_history, indptr, rows, confidences)
    wanted = np.array([1, 0, 1, 1, 1], dtype=np.int8)
    bought_indptr, bought = np.zeros(6, np.int64), np.zeros(size, np.int32)
    kernels.purchased_rows(merged, wanted, bought_indptr, bought)
    for i, (user, slot) in enumerate(zip(users, slots, strict=True)):
        known = [*(people[user] if user >= 0 else []), *(expected(new, slot, 500) if slot >= 0 else [])]
        person = reference.merge(known, WEIGHTS.tolist())
        span = slice(merged.indptr[i], merged.indptr[i + 1])
        assert merged.rows[span].tolist() == list(person.items)
        items = list(person.items.values())
        np.testing.assert_allclose(merged.weights[span], [item.weight for item in items], rtol=1e-6)
        assert merged.n_bought[span].tolist() == [item.n_bought for item in items]
        assert merged.last_ms[span].tolist() == [item.last_ms for item in items]
        assert merged.last_bought_ms[span].tolist() == [item.last_bought_ms for item in items]
        assert (merged.n_events[i], merged.last_event_ms[i]) == (person.n_events, person.last_event_ms)
        pairs = list(
            zip(
                rows[indptr[i] : indptr[i + 1]].tolist(),
                confidences[indptr[i] : indptr[i + 1]].tolist(),
                strict=True,
            )
        )
        assert pairs == reference.fold_in_input(person, N_ROWS - 2, 8.0, max_history)
        mine = bought[bought_indptr[i] : bought_indptr[i + 1]].tolist()
        assert mine == ([row for row, item in person.items.items() if item.n_bought > 0] if wanted[i] else [])


def test_histories_that_do_not_fit_are_refused() -> None:
    csr, _ = artifact_part([(0, 1, 3, 5)])
    arena = filled([(0, 2, 3, 5)], 500)
    wrong = (
        (csr, arena, [2], [-1]),
        (csr, arena, [-1], [4]),
        (csr._replace(rows=csr.rows + N_ROWS), arena, [0], [-1]),
        (csr._replace(types=csr.types - 100), arena, [0], [-1]),
        (csr._replace(weights=csr.weights[:0]), arena, [0], [-1]),
        (csr, arena._replace(start=arena.start + 10**6), [-1], [0]),
    )
    for known, fresh, users, slots in wrong:
        with pytest.raises(ValueError, match="do not fit"):
            merged_of(known, fresh, users, slots)
