"""Large artifacts for benchmarks, made in seconds: random factors, short histories, ids ``u0`` … and ``i0`` …."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headrace.artifact_format import Manifest
from headrace.artifacts import ArtifactStore
from headrace.ids import IdTable

HISTORY = 20
NEIGHBOURS = 8
TRAINED_UNTIL_MS = 1_700_000_000_000


def write_artifact(
    store: ArtifactStore, version: str, n_items: int, d: int, n_users: int, ids: tuple[IdTable, IdTable], seed: int = 0
) -> Path:
    """Write a version, not published; returns its directory. ids : of the users and of the items."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((n_items, d), dtype=np.float32) * np.float32(0.3)
    popularity = rng.random(n_items, dtype=np.float32)
    popularity /= popularity.sum()
    with store.writer(version) as writer:
        writer.add(
            user_factors=rng.standard_normal((n_users, d), dtype=np.float32) * np.float32(0.3),
            item_factors=factors,
            gram=factors.T @ factors,
            popularity=popularity,
            popular_order=np.argsort(-popularity, kind="stable"),
            **_neighbours(rng, n_items),
            **_histories(rng, n_users, n_items),
            probability_weights=np.array([1.0, 0.25, 0.125, 0.5, -0.25, -0.5]),
            calibration_x=np.array([-4.0, 0.0, 4.0]),
            calibration_y=np.array([0.015625, 0.25, 0.75]),
            landscape_edges_cpm=np.array([0, 500_000, 1_000_000, 2_000_000]),
            landscape_counts=np.array([[4.0, 2.0, 1.0]]),
            traffic_profile=np.full(168, 1.0 / 168.0),
        )
        writer.add_ids(users=ids[0], items=ids[1])
        return writer.finish(_manifest(version, n_users, n_items, d))


def made_ids(n_items: int, n_users: int) -> tuple[IdTable, IdTable]:
    """The users' and the items' ids; the slowest part, so versions share it."""
    return IdTable.build([f"u{i}" for i in range(n_users)]), IdTable.build([f"i{i}" for i in range(n_items)])


def _neighbours(rng: np.random.Generator, n_items: int) -> dict[str, Any]:
    steps = rng.integers(1, n_items, (n_items, NEIGHBOURS), dtype=np.int32)
    items = (np.arange(n_items, dtype=np.int64)[:, None] + steps) % n_items
    return {
        "neighbour_indptr": np.arange(n_items + 1) * NEIGHBOURS,
        "neighbour_items": items.ravel(),
        "neighbour_weights": np.tile(np.linspace(1.0, 0.1, NEIGHBOURS), n_items),
    }


def _histories(rng: np.random.Generator, n_users: int, n_items: int) -> dict[str, Any]:
    # HISTORY different items each, in ascending order: one from each of as many ranges
    width = n_items // HISTORY
    items = rng.integers(0, width, (n_users, HISTORY)) + np.arange(HISTORY) * width
    size = n_users * HISTORY
    return {
        "history_indptr": np.arange(n_users + 1) * HISTORY,
        "history_items": items.ravel(),
        "history_types": rng.choice(np.array([1, 3], np.int8), size),
        "history_weights": np.full(size, 0.25),
        "history_times_ms": TRAINED_UNTIL_MS - rng.integers(1, 10**9, size),
    }


def _manifest(version: str, n_users: int, n_items: int, d: int) -> Manifest:
    return Manifest(
        version=version,
        created_ms=TRAINED_UNTIL_MS,
        train_start_ms=TRAINED_UNTIL_MS - 10**9,
        trained_until_ms=TRAINED_UNTIL_MS,
        log_id="made",
        log_sequence=0,
        n_users=n_users,
        n_items=n_items,
        n_factors=d,
        metrics={},
        parameters={},
        libraries={},
        repeat_policy="allow",
        repeat_rate=0.25,
        event_weights={"view": 0.25, "cart": 0.5, "purchase": 1.0},
        alpha=8.0,
        regularization=0.125,
        probability_bias=-1.0,
        horizon_days=7.0,
        landscape_exchanges=[""],
        landscape_source="assumed",
    )
