"""Small artifacts and logs for tests and benchmarks, in memory.

Tests get this module by the fixture ``factories``, since test folders are no packages.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from headrace.artifact_format import ARRAYS
from headrace.artifacts import Artifact, ArtifactStore, Manifest
from headrace.ids import IdTable

T0_MS = 1_700_000_000_000
"""The end of the made training window."""

EVENT_WEIGHTS = {"view": 0.25, "cart": 0.5, "purchase": 1.0, "click": 0.25, "share": 0.5}
PURCHASE = 3


def make_artifact(
    n_users: int = 40,
    n_items: int = 60,
    d: int = 8,
    seed: int = 0,
    *,
    history: int = 10,
    user_ids: list[str] | None = None,
    **manifest: Any,
) -> Artifact:
    """An artifact with random factors and histories of purchases and views; users are ``u0`` …, items ``i0`` ….

    user_ids : other names for the users.
    manifest : fields of the manifest to set otherwise, ``log_id`` and ``log_sequence`` for instance.
    """
    rng = np.random.default_rng(seed)
    item_factors = (rng.normal(size=(n_items, d)) * 0.3).astype(np.float32)
    popularity = rng.dirichlet(np.ones(n_items)).astype(np.float32) if n_items else np.zeros(0, dtype=np.float32)
    arrays: dict[str, Any] = {
        "user_factors": (rng.normal(size=(n_users, d)) * 0.3).astype(np.float32),
        "item_factors": item_factors,
        "gram": item_factors.T @ item_factors,
        "popularity": popularity,
        "popular_order": np.lexsort((np.arange(n_items), -popularity)).astype(np.int32),
        **_neighbours(rng, n_items),
        **_histories(rng, n_users, n_items, min(history, n_items)),
        "probability_weights": np.array([1.0, 0.25, 0.125, 0.5, -0.25, -0.5], dtype=np.float32),
        "calibration_x": np.array([-4.0, 0.0, 4.0]),
        "calibration_y": np.array([0.015625, 0.25, 0.75]),
        "landscape_edges_cpm": np.array([0, 500_000, 1_000_000, 2_000_000]),
        "landscape_counts": np.array([[4.0, 2.0, 1.0], [1.0, 0.5, 0.25]]),
        "traffic_profile": np.full(168, 1.0 / 168.0),
    }
    for array in arrays.values():
        array.setflags(write=False)  # as if mapped from disk
    made = make_manifest(n_users=n_users, n_items=n_items, n_factors=d, **manifest)
    return Artifact(
        path=Path("made-in-memory"),
        version=made.version,
        manifest=made,
        user_ids=IdTable.build(user_ids or [f"u{i}" for i in range(n_users)]),
        item_ids=IdTable.build([f"i{i}" for i in range(n_items)]),
        index_path=None,
        **arrays,
    )


def write_artifact(store: ArtifactStore, version: str, *shape: int, **options: Any) -> Path:
    """Write what :func:`make_artifact` makes as a version of a store, not published; returns its directory."""
    artifact = make_artifact(*shape, version=version, **options)
    with store.writer(version) as writer:
        writer.add(**{name: getattr(artifact, name) for name in ARRAYS if hasattr(artifact, name)})
        writer.add_ids(users=artifact.user_ids, items=artifact.item_ids)
        return writer.finish(artifact.manifest)


def make_manifest(**fields: Any) -> Manifest:
    """A manifest with plausible fields, any of which may be set."""
    plausible: dict[str, Any] = {
        "version": "made",
        "created_ms": T0_MS,
        "train_start_ms": T0_MS - 10**9,
        "trained_until_ms": T0_MS,
        "log_id": "elsewhere",
        "log_sequence": 0,
        "metrics": {},
        "parameters": {},
        "libraries": {},
        "repeat_policy": "allow",
        "repeat_rate": 0.25,
        "event_weights": EVENT_WEIGHTS,
        "alpha": 8.0,
        "regularization": 0.125,
        "probability_bias": -1.0,
        "horizon_days": 7.0,
        "landscape_exchanges": ["", "adx"],
        "landscape_source": "assumed",
    }
    return Manifest(**(plausible | fields))


def _neighbours(rng: np.random.Generator, n_items: int) -> dict[str, Any]:
    degree = min(3, max(n_items - 1, 0))
    rows = [rng.choice(np.delete(np.arange(n_items), i), degree, replace=False) for i in range(n_items)]
    weights = np.sort(rng.random((n_items, degree)), axis=1)[:, ::-1]
    return {
        "neighbour_indptr": np.arange(n_items + 1, dtype=np.int64) * degree,
        "neighbour_items": np.concatenate([*rows, []]).astype(np.int32),
        "neighbour_weights": np.ascontiguousarray(weights, dtype=np.float32).ravel(),
    }


def _histories(rng: np.random.Generator, n_users: int, n_items: int, length: int) -> dict[str, Any]:
    items = [np.sort(rng.choice(n_items, length, replace=False)) for _ in range(n_users)]
    types = rng.choice([1, PURCHASE], size=n_users * length)
    repeats = rng.integers(1, 4, size=n_users * length)
    return {
        "history_indptr": np.arange(n_users + 1, dtype=np.int64) * length,
        "history_items": np.concatenate([*items, []]).astype(np.int32),
        "history_types": types.astype(np.int8),
        "history_weights": (repeats * np.where(types == PURCHASE, 1.0, 0.25)).astype(np.float32),
        "history_times_ms": T0_MS - rng.integers(1, 10**9, size=n_users * length),
    }
