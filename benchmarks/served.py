"""A whole Headrace server to measure: a made-up artifact, campaigns, and `headrace serve` on the server's core."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
from factors import mixture
from load import Process

from headrace import Client
from headrace.artifact_format import ARRAYS
from headrace.artifacts import ArtifactStore
from headrace.ids import IdTable
from headrace.v1 import bidder_pb2, campaigns_pb2, recommender_pb2

RECOMMEND = "/headrace.v1.RecommenderService/Recommend"
BID = "/headrace.v1.BidderService/Bid"
BID_BATCH = "/headrace.v1.BidderService/BidBatch"
BID_STREAM = "/headrace.v1.BidderService/BidStream"

VIEW, PURCHASE = 1, 3
K = 20
N_LINES, PER_COUNTRY = 1000, 10
"""Line items in all, and those that match a request from one country."""

FEW, MANY = "AA", "ZZ"
"""Countries whose requests match 10 line items and 64."""


def factories() -> ModuleType:
    """The tests' makers of artifacts."""
    path = Path(__file__).parents[1] / "tests" / "factories.py"
    spec = importlib.util.spec_from_file_location("factories", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def publish(
    root: Path, n_users: int, n_items: int, d: int = 64, history: int = 50, versions: Sequence[str] = ("bench",)
) -> None:
    """An artifact of clustered factors and histories in a new store; half of the history was bought and is lifted.

    versions : names under which the same artifact is written; the first is published.
    """
    store, rng = ArtifactStore(root), np.random.default_rng(1)
    made = factories().make_artifact(8, 8, d, history=8, version="bench", repeat_boost=0.5)
    factors = mixture(n_items, d) * np.float32(0.5)
    popularity = rng.dirichlet(np.ones(n_items)).astype(np.float32)
    arrays = {name: getattr(made, name) for name in ARRAYS if hasattr(made, name)}
    arrays |= {
        "user_factors": mixture(n_users, d, seed=2),
        "item_factors": factors,
        "gram": factors.T @ factors,
        "popularity": popularity,
        "popular_order": np.lexsort((np.arange(n_items), -popularity)).astype(np.int32),
        "neighbour_indptr": np.arange(n_items + 1, dtype=np.int64),
        "neighbour_items": rng.permutation(n_items).astype(np.int32),
        "neighbour_weights": np.ones(n_items, dtype=np.float32),
        **histories(rng, n_users, n_items, history),
    }
    manifest = msgspec.structs.replace(made.manifest, n_users=n_users, n_items=n_items)
    for version in versions:
        with store.writer(version) as writer:
            writer.add(**arrays)
            writer.add_ids(
                users=IdTable.build([f"u{n}" for n in range(n_users)]),
                items=IdTable.build([f"i{n}" for n in range(n_items)]),
            )
            writer.finish(msgspec.structs.replace(manifest, version=version))
    store.publish(versions[0])


def histories(rng: np.random.Generator, n_users: int, n_items: int, length: int) -> dict[str, Any]:
    """Every person's items lie within a stretch of four times their number, so that people have tastes."""
    size = n_users * length
    offsets = np.sort(np.argsort(rng.random((n_users, 4 * length), dtype=np.float32), axis=1)[:, :length], axis=1)
    starts = rng.integers(0, n_items - 4 * length, n_users)
    types = rng.choice(np.array([VIEW, PURCHASE], dtype=np.int8), size)
    return {
        "history_indptr": np.arange(n_users + 1, dtype=np.int64) * length,
        "history_items": (offsets + starts[:, None]).astype(np.int32).ravel(),
        "history_types": types,
        "history_weights": np.where(types == PURCHASE, 1.0, 0.25).astype(np.float32),
        "history_times_ms": factories().T0_MS - rng.integers(1, 10**9, size),
    }


@contextmanager
def serving(folder: Path, *flags: str, log: Path | None = None, **environment: str) -> Iterator[Process]:
    """`headrace serve` on the artifact of `folder`; data beside it, its log to a file where one is named."""
    command = ["-m", "headrace", "serve", "--artifact", str(folder / "artifacts"), "--data", str(folder / "data")]
    with ExitStack() as stack:
        stderr = stack.enter_context(log.open("w")) if log else None
        server = Process.python(*command, "--listen", "127.0.0.1:0", *flags, stderr=stderr, **environment)
        yield stack.enter_context(server)


def fund(address: str, mode: int = campaigns_pb2.LEDGER_MODE_UNSPECIFIED) -> None:
    """One campaign of 1,000 line items: 10 match a request from FEW, 64 one from MANY, the others other countries."""
    countries = [FEW] * 10 + [MANY] * 64
    countries += [chr(66 + n // 10 % 20) + chr(65 + n // 200) for n in range(N_LINES - len(countries))]
    lines = [
        campaigns_pb2.LineItem(
            line_item_id=f"l{n}",
            item_ids=[f"i{(n * 10 + k) % 10_000}" for k in range(10)],
            action_worth_micros=20_000_000,
            targeting=campaigns_pb2.Targeting(countries=[country]),
        )
        for n, country in enumerate(countries)
    ]
    campaign = campaigns_pb2.Campaign(
        campaign_id="c",
        advertiser_id="a",
        limits=campaigns_pb2.Limits(lifetime_micros=10**15),
        line_items=lines,
        ledger_mode=mode,
        pacing_plan=campaigns_pb2.PACING_PLAN_ASAP,
    )
    with Client(address) as client:
        client.fund_advertiser("deposit", "a", 10**15)
        client.create_campaign(campaign)


def people(n: int, among: int, seed: int = 1) -> list[str]:
    """Who asks, call by call: uniformly with repetition."""
    return [f"u{row}" for row in random.Random(seed).choices(range(among), k=n)]


def recommend_bodies(user_ids: list[str]) -> list[bytes]:
    """A request of 20 items for each."""
    return [recommender_pb2.RecommendRequest(user_id=name, limit=K).SerializeToString() for name in user_ids]


def bid_requests(user_ids: list[str], country: str = FEW) -> list[bidder_pb2.BidRequest]:
    """A request of one impression for each."""
    return [
        bidder_pb2.BidRequest(
            bid_request_id=f"b{n}",
            user_id=name,
            country=country,
            exchange="adx",
            impressions=[bidder_pb2.Impression(impression_id="1")],
        )
        for n, name in enumerate(user_ids)
    ]


def bid_bodies(user_ids: list[str], country: str = FEW) -> list[bytes]:
    """The same, encoded."""
    return [request.SerializeToString() for request in bid_requests(user_ids, country)]


def batch_bodies(user_ids: list[str], size: int = 256) -> list[bytes]:
    """The same in calls of ``size`` requests."""
    requests = bid_requests(user_ids)
    return [
        bidder_pb2.BidBatchRequest(requests=requests[first : first + size]).SerializeToString()
        for first in range(0, len(requests) - size + 1, size)
    ]
