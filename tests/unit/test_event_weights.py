"""Event weights: what they do, and that they are learned when the events tell them apart."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.events.columns import TrainingColumns
from headrace_training.mapping import EVENT_TYPES
from headrace_training.weights import DAY_MS, Worth, learn_weights, weigh

START = Worth(weights={"view": 0.5, "cart": 0.5, "purchase": 1.0})
UNTIL = 100 * DAY_MS


def columns(rows: list[tuple[int, int, str, float, float]], n_users: int, n_items: int) -> TrainingColumns:
    """Events of (user, item, type, day, quantity)."""
    return TrainingColumns(
        user_idx=np.array([row[0] for row in rows], np.int32),
        user_names=[f"u{user}" for user in range(n_users)],
        item_idx=np.array([row[1] for row in rows], np.int32),
        item_ids=[f"i{item}" for item in range(n_items)],
        types=np.array([EVENT_TYPES[row[2]] for row in rows], np.int8),
        times_ms=np.array([row[3] * DAY_MS for row in rows], np.int64),
        quantities=np.array([row[4] for row in rows]),
        prices_micros=np.zeros(len(rows), np.int64),
        log_id="log",
        log_sequence=len(rows),
    )


def test_an_event_weighs_by_type_age_and_quantity() -> None:
    rows = [
        (0, 0, "purchase", 90, 4.0),
        (0, 1, "view", 100, 1.0),
        (1, 0, "purchase", 80, 1.0),
        (1, 0, "return", 90, 1.0),
    ]
    rows += [(1, 1, "purchase", 100.5, 1.0), (1, 1, "share", 1, 1.0)]
    events = columns(rows, 2, 2)
    worth = Worth(weights={"purchase": 1.0, "view": 0.25}, half_life_days=10, quantity_exponent=0.5)
    assert weigh(events, worth, 101 * DAY_MS).toarray() == pytest.approx(
        np.array([[2 * 2**-1.1, 0.25 * 2**-0.1], [0.0, 2**-0.05]])
    )
    # before the hundredth day nothing else is known, and a return takes a purchase back
    plain = weigh(events, Worth(weights={"purchase": 1.0}), UNTIL)
    assert plain.toarray().tolist() == [[1.0, 0.0], [0.0, 0.0]]
    assert plain.nnz == 1


def shop(seed: int = 0, n_users: int = 160, n_items: int = 60) -> TrainingColumns:
    """Carts are of the kind that is bought later, views are of any kind."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[int, int, str, float, float]] = []
    for user in range(n_users):
        own = np.flatnonzero(np.arange(n_items) % 4 == user % 4)
        picked = rng.permutation(own)
        rows += [(user, int(item), "cart", rng.uniform(0, 99), 1.0) for item in picked[:4]]
        rows += [(user, int(item), "view", rng.uniform(0, 99), 1.0) for item in rng.integers(0, n_items, 12)]
        rows += [(user, int(item), "purchase", 101.0, 1.0) for item in picked[4:7]]
        rows.append((user, int(rng.integers(n_items)), "purchase", 5.0, 1.0))
    return columns(rows, n_users, n_items)


def test_what_foretells_purchases_comes_to_weigh_more() -> None:
    learned = learn_weights(shop(), START, UNTIL, 7 * DAY_MS, k=5)
    assert learned.worth.weights["cart"] > 2 * learned.worth.weights["view"]
    assert learned.after > 1.1 * learned.before
    assert learn_weights(shop(), START, UNTIL, 7 * DAY_MS, k=5) == learned


def test_noise_leaves_the_weights_as_they_are() -> None:
    rng = np.random.default_rng(1)
    kinds = ("view", "cart", "purchase")
    rows = [
        (int(rng.integers(80)), int(rng.integers(300)), kinds[int(rng.integers(3))], rng.uniform(0, 107), 1.0)
        for _ in range(1500)
    ]
    learned = learn_weights(columns(rows, 80, 300), START, UNTIL, 7 * DAY_MS)
    assert learned.after >= learned.before


def test_too_few_people_leave_the_weights_as_they_are() -> None:
    rows = [(0, 0, "purchase", 50, 1.0), (0, 1, "purchase", 101, 1.0)]
    learned = learn_weights(columns(rows, 1, 2), START, UNTIL, 7 * DAY_MS)
    assert learned.worth is START


def test_a_log_of_one_type_without_purchases_is_learned_on_itself() -> None:
    events = shop()
    views = events.types != EVENT_TYPES["purchase"]
    rows = [
        (int(u), int(i), "view", t / DAY_MS + (2 if t > 95 * DAY_MS else 0), 1.0)
        for u, i, t in zip(events.user_idx[views], events.item_idx[views], events.times_ms[views], strict=True)
    ]
    learned = learn_weights(columns(rows, 160, 60), Worth(weights={"view": 1.0}), 96 * DAY_MS, 7 * DAY_MS)
    assert learned.worth.weights["view"] == 1.0
    assert np.isfinite([learned.before, learned.after]).all()
