"""Time decides what is held out, whatever the order of a file's lines or of a log's arrivals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from headrace.events.log import NewEvent
from headrace_training.datasets import read_pairs
from headrace_training.evaluate import latest_times
from headrace_training.evaluate_log import evaluate_log_metrics
from headrace_training.ingest import open_log
from headrace_training.split import hold_out

N_USERS, N_TIMES = 25, 12
START_MS = 1_700_000_000_000


def rows(seed: int = 0) -> list[tuple[str, str, int]]:
    """Every user takes some items of thirty, some of them twice, each at a time of its own."""
    rng = np.random.default_rng(seed)
    times = rng.permutation(N_USERS * N_TIMES)
    return [(f"u{n % N_USERS}", f"i{rng.integers(30)}", START_MS + int(time) * 1000) for n, time in enumerate(times)]


def held_out(path: Path) -> set[tuple[str, str]]:
    pairs = read_pairs(path)
    train = pairs.matrix()
    held: sp.coo_matrix = hold_out(train, 0, latest_times(pairs, train))[1].tocoo()
    return {(pairs.user_ids[u], pairs.item_ids[i]) for u, i in zip(held.row.tolist(), held.col.tolist(), strict=True)}


def write(path: Path, events: list[tuple[str, str, int]]) -> Path:
    path.write_text("user,item,time\n" + "".join(f"{who},{what},{when}\n" for who, what, when in events))
    return path


@pytest.mark.parametrize("order", ["in time order", "backwards", "shuffled"])
def test_a_file_out_of_order_is_held_out_by_time(tmp_path: Path, order: str) -> None:
    events = sorted(rows(), key=lambda row: row[2])
    last: dict[tuple[str, str], int] = {(who, what): when for who, what, when in events}
    expected = set()
    for user in {who for who, _ in last}:
        mine = sorted((when, pair) for pair, when in last.items() if pair[0] == user)
        expected |= {pair for _, pair in mine[-max(1, round(len(mine) * 0.2)) :]}
    if order == "backwards":
        events = events[::-1]
    elif order == "shuffled":
        events = [events[n] for n in np.random.default_rng(1).permutation(len(events))]
    assert held_out(write(tmp_path / "train.csv", events)) == expected


def test_equal_times_are_split_by_the_seed_and_always_alike(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", [(who, what, START_MS) for who, what, _ in rows()])
    assert held_out(path) == held_out(path)
    pairs = read_pairs(path)
    train = pairs.matrix()
    latest = latest_times(pairs, train)
    splits = [set(zip(*hold_out(train, seed, latest)[1].nonzero(), strict=True)) for seed in (0, 1)]
    assert splits[0] != splits[1]


def test_without_times_chance_holds_out_and_the_rest_is_train(tmp_path: Path) -> None:
    train = sp.csr_matrix((np.random.default_rng(0).random((40, 30)) < 0.3).astype(np.float32))
    rest, held = hold_out(train, 0)
    assert (rest + held != train).nnz == 0
    assert rest.multiply(held).nnz == 0
    counts, taken = np.diff(train.indptr), np.diff(held.indptr)
    assert (taken[counts >= 2] == np.maximum(1, np.rint(counts[counts >= 2] * 0.2))).all()
    assert (taken[counts < 2] == 0).all()


def test_a_log_that_arrived_out_of_order_is_split_by_the_events_own_times(tmp_path: Path) -> None:
    events = [NewEvent(f"{n}", who, "", 3, what, when) for n, (who, what, when) in enumerate(rows(3))]
    moment = sorted(event.time_ms for event in events)[len(events) * 3 // 4]
    found = []
    for name, order in (("sorted", sorted(events, key=lambda event: event.time_ms)), ("mixed", events)):
        log = open_log(tmp_path / name, create=True)
        log.append(order)
        log.store.close()
        report = evaluate_log_metrics(tmp_path / name, moment, model="popularity", k=30)
        found.append({key: report[key] for key in ("users", "items", "overlap_pairs", "recall@30", "test_digest")})
    assert found[0] == found[1]
