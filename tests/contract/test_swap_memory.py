"""Nothing keeps an artifact that was swapped out in memory, records of its bids least of all."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from types import ModuleType

from headrace.artifacts import Artifact, ArtifactStore
from headrace.bidding.predict import BidModel
from headrace.config import load_config
from headrace.front import Call
from headrace.service.assembly import Assembly
from headrace.service.dispatch import answer
from headrace.v1 import bidder_pb2, campaigns_pb2

BID = bidder_pb2.BidRequest(bid_request_id="b1", user_id="u1", impressions=[bidder_pb2.Impression(impression_id="1")])
LINE = campaigns_pb2.LineItem(line_item_id="l1", item_ids=["i1"], action_worth_micros=1_000_000)
CAMPAIGN = campaigns_pb2.Campaign(campaign_id="c1", advertiser_id="a1", line_items=[LINE])
FUNDS = campaigns_pb2.FundAdvertiserRequest(entry_id="d1", advertiser_id="a1", amount_micros=10**9)


def versions() -> list[str]:
    """Of this test's artifacts, and of what bids read of them, in memory."""
    gc.collect()
    found = [thing.version for thing in gc.get_objects() if type(thing) in (Artifact, BidModel)]
    return sorted(version for version in found if version.startswith("swapped"))


def test_an_artifact_that_was_swapped_out_leaves_the_memory(tmp_path: Path, factories: ModuleType) -> None:
    store = ArtifactStore(tmp_path / "artifacts")
    for seed, version in enumerate(("swapped-1", "swapped-2")):
        factories.write_artifact(store, version, seed=seed)
    store.publish("swapped-1")
    flags = {"server": {"artifact": str(store.root), "data": str(tmp_path / "data")}}
    with contextlib.closing(Assembly(load_config(flags=flags, environment={}))) as assembly:
        methods = {method.name.rpartition("/")[2]: method for method in assembly.methods()}

        def ask(name: str, request: bytes) -> bytes:
            call = Call(methods[name].name, request, float("inf"), "ipv4:test", {}, None, caller="a1b2")
            return answer(methods[name], [call])[0].body

        ask("FundAdvertiser", FUNDS.SerializeToString())
        ask("CreateCampaign", campaigns_pb2.CreateCampaignRequest(campaign=CAMPAIGN).SerializeToString())
        bid = bidder_pb2.BidResponse.FromString(ask("Bid", BID.SerializeToString()))
        assert bid.impressions[0].token
        store.publish("swapped-2")
        assert assembly.served.reload()
        assert versions() == ["swapped-2", "swapped-2"]
