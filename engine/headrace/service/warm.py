"""Compiling every kernel ahead of the first start, with an artifact made for nothing else."""

from __future__ import annotations

import dataclasses
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np

from headrace.artifact_format import Manifest
from headrace.artifacts import ArtifactStore
from headrace.config import Config, ServerConfig
from headrace.ids import IdTable
from headrace.service.assembly import Assembly

N_USERS, N_ITEMS, N_FACTORS, N_HOURS = 2, 4, 8, 168


def warm() -> None:
    """Build all that a server builds before it is ready, in a scratch folder: kernels end up in their cache."""
    with tempfile.TemporaryDirectory(prefix="headrace-warm-") as scratch:
        store = ArtifactStore(Path(scratch) / "artifacts")
        _write(store)
        server = ServerConfig(artifact=str(store.root), data=str(Path(scratch) / "data"))
        with closing(Assembly(dataclasses.replace(Config(), server=server))):
            pass


def _write(store: ArtifactStore) -> None:
    with store.writer("warm") as writer:
        writer.add(
            user_factors=np.eye(N_USERS, N_FACTORS),
            item_factors=np.eye(N_ITEMS, N_FACTORS),
            gram=np.eye(N_FACTORS),
            popularity=np.full(N_ITEMS, 1 / N_ITEMS),
            popular_order=np.arange(N_ITEMS),
            neighbour_indptr=np.arange(N_ITEMS + 1),
            neighbour_items=(np.arange(N_ITEMS) + 1) % N_ITEMS,
            neighbour_weights=np.ones(N_ITEMS),
            history_indptr=np.arange(N_USERS + 1),
            history_items=np.arange(N_USERS),
            history_types=np.full(N_USERS, 3),
            history_weights=np.ones(N_USERS),
            history_times_ms=np.ones(N_USERS),
            probability_weights=np.zeros(6),
            calibration_x=np.array([-1.0, 1.0]),
            calibration_y=np.array([0.25, 0.75]),
            landscape_edges_cpm=np.array([0, 1_000_000]),
            landscape_counts=np.ones((1, 1)),
            traffic_profile=np.full(N_HOURS, 1 / N_HOURS),
        )
        writer.add_ids(users=IdTable.build(["u0", "u1"]), items=IdTable.build(["i0", "i1", "i2", "i3"]))
        writer.finish(_manifest())
    store.publish("warm")


def _manifest() -> Manifest:
    return Manifest(
        version="warm",
        created_ms=1,
        train_start_ms=1,
        trained_until_ms=1,
        log_id="none",
        log_sequence=0,
        n_users=N_USERS,
        n_items=N_ITEMS,
        n_factors=N_FACTORS,
        metrics={},
        parameters={},
        libraries={},
        repeat_policy="allow",
        repeat_rate=0.25,
        event_weights={"purchase": 1.0},
        alpha=1.0,
        regularization=0.1,
        probability_bias=0.0,
        horizon_days=7.0,
        landscape_exchanges=[""],
        landscape_source="assumed",
    )
