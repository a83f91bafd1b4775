"""Large artifacts for benchmarks, made in seconds: clustered factors, people with tastes, ids ``u0`` … and ``i0`` …."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from factors import mixture

from headrace.artifact_format import Manifest
from headrace.artifacts import ArtifactStore
from headrace.ids import IdTable

VIEW, PURCHASE = 1, 3
HISTORY, WIDEST_GAP, NEIGHBOURS = 50, 7, 8
TRAINED_UNTIL_MS = 1_700_000_000_000


def publish(root: Path, n_users: int, n_items: int, versions: Sequence[str] = ("bench",)) -> None:
    """The same artifact under some names in a new store, the first of them published."""
    store, ids = ArtifactStore(root), made_ids(n_users, n_items)
    for version in versions:
        write_artifact(store, version, ids)
    store.publish(versions[0])


def write_artifact(
    store: ArtifactStore, version: str, ids: tuple[IdTable, IdTable], *, d: int = 64, seed: int = 0
) -> Path:
    """Write a version, not published; returns its directory. ids : of the users and of the items."""
    rng, (n_users, n_items) = np.random.default_rng(seed), map(len, ids)
    factors = mixture(n_items, d, seed=2 * seed)
    factors *= np.float32(0.5)
    popularity = rng.standard_exponential(n_items, dtype=np.float32)
    popularity /= popularity.sum()
    with store.writer(version) as writer:
        writer.add(
            user_factors=mixture(n_users, d, seed=2 * seed + 1),
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
            landscape_counts=np.array([[4.0, 2.0, 1.0], [1.0, 0.5, 0.25]]),
            traffic_profile=np.full(168, 1.0 / 168.0),
        )
        writer.add_ids(users=ids[0], items=ids[1])
        return writer.finish(_manifest(version, n_users, n_items, d))


def made_ids(n_users: int, n_items: int) -> tuple[IdTable, IdTable]:
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
    """Every person's items lie within a stretch of some times their number, so that people have tastes."""
    gaps = rng.integers(1, WIDEST_GAP + 1, (n_users, HISTORY), dtype=np.int32)
    starts = rng.integers(0, n_items - WIDEST_GAP * HISTORY, n_users, dtype=np.int32)
    size = n_users * HISTORY
    types = rng.choice(np.array([VIEW, PURCHASE], dtype=np.int8), size)
    return {
        "history_indptr": np.arange(n_users + 1) * HISTORY,
        "history_items": (starts[:, None] + np.cumsum(gaps, axis=1, dtype=np.int32) - 1).ravel(),
        "history_types": types,
        "history_weights": np.where(types == PURCHASE, np.float32(1.0), np.float32(0.25)),
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
        repeat_boost=0.5,
        probability_bias=-1.0,
        horizon_days=7.0,
        landscape_exchanges=["", "adx"],
        landscape_source="assumed",
    )
