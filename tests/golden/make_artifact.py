"""Writes the artifact of format version 2 that tests/golden/artifact_v2 keeps; run it only for a new format version.

The one in artifact_v1 has the same arrays but for those of the blend.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from headrace.artifact_format import BlendTerms
from headrace.artifacts import ArtifactStore, Manifest
from headrace.ids import IdTable

USERS = ["4242", "77", "9000000001"]
ITEMS = ["tea", "cup", "Kännchen", "茶"]


def golden_arrays() -> dict[str, np.ndarray]:
    """Hand-made arrays of three users and four items; every value is exact in binary."""
    item_factors = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [-0.25, 0.75]], dtype=np.float32)
    return {
        "user_factors": np.array([[1.0, 0.25], [0.0, 0.5], [0.75, -0.5]], dtype=np.float32),
        "item_factors": item_factors,
        "gram": item_factors.T @ item_factors,
        "popularity": np.array([0.5, 0.25, 0.125, 0.125], dtype=np.float32),
        "popular_order": np.array([0, 1, 2, 3]),
        "neighbour_indptr": np.array([0, 2, 3, 3, 4]),
        "neighbour_items": np.array([1, 2, 0, 0]),
        "neighbour_weights": np.array([0.75, 0.25, 0.75, 0.5]),
        "history_indptr": np.array([0, 2, 3, 3]),
        "history_items": np.array([0, 1, 0]),
        "history_types": np.array([3, 1, 3]),
        "history_weights": np.array([2.0, 0.25, 1.0]),
        "history_times_ms": np.array([1_700_000_000_000, 1_700_000_100_000, 1_700_000_200_000]),
        "probability_weights": np.array([1.0, 0.25, 0.125, 0.5, -0.25, -0.5]),
        "calibration_x": np.array([-4.0, 0.0, 4.0]),
        "calibration_y": np.array([0.015625, 0.25, 0.75]),
        "landscape_edges_cpm": np.array([0, 500_000, 1_000_000, 2_000_000]),
        "landscape_counts": np.array([[4.0, 2.0, 1.0], [1.0, 0.5, 0.25]]),
        "traffic_profile": np.full(168, 1.0 / 168.0),
        "item_link_indptr": np.array([0, 1, 3, 3, 4]),
        "item_link_items": np.array([1, 0, 2, 0]),
        "item_link_weights": np.array([0.5, 1.0, 0.25, -0.125]),
        "session_link_indptr": np.array([0, 1, 1, 2, 2]),
        "session_link_items": np.array([3, 0]),
        "session_link_weights": np.array([0.75, 0.5]),
        "session_decay": np.array([1.0, 0.5]),
        "index_centres": np.array([[1.0, 0.0], [0.0, 1.0]]),
        "index_lists": np.array([0, 1, 1, 0]),
    }


def golden_manifest() -> Manifest:
    """The manifest beside those arrays."""
    return Manifest(
        version="golden",
        created_ms=1_700_000_300_000,
        train_start_ms=1_690_000_000_000,
        trained_until_ms=1_700_000_200_000,
        log_id="golden-log",
        log_sequence=17,
        n_users=len(USERS),
        n_items=len(ITEMS),
        n_factors=2,
        metrics={"recall@20": 0.5, "ndcg@20": 0.25, "coverage@20": 1.0},
        parameters={"model": "ials", "iterations": 15, "seed": 0},
        libraries={"headrace": "0.1.0"},
        index_type="lists",
        index_probes=1,
        repeat_policy="allow",
        repeat_rate=0.25,
        repeat_boost=0.5,
        repeat_days=30.0,
        event_weights={"purchase": 1.0, "view": 0.25},
        alpha=8.0,
        blend=BlendTerms(
            item_weight=0.5,
            new_item_weight=1.5,
            power=0.5,
            half_life_days=90.0,
            length_power=0.25,
            session_weight=2.0,
        ),
        regularization=0.125,
        probability_bias=-1.0,
        horizon_days=7.0,
        landscape_exchanges=["", "adx"],
        landscape_source="assumed",
    )


def write_golden(root: Path, version: str = "golden") -> Path:
    """Write the artifact as a version of the store at root and return its directory."""
    with ArtifactStore(root).writer(version) as writer:
        writer.add(**golden_arrays())
        writer.add_ids(users=IdTable.build(USERS), items=IdTable.build(ITEMS))
        return writer.finish(golden_manifest())


if __name__ == "__main__":
    print(write_golden(Path(sys.argv[1])))
