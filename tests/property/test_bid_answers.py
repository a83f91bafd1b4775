"""Answers to bids are the bytes that protobuf's own classes write, for each way to ask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._native import BidBoard, BidCalls, bid_tokens
from headrace.bidding.requests import INSUFFICIENT_TIME
from headrace.v1 import bidder_pb2 as pb

NOW_MS = 1_700_000_000_000
REQUEST, BATCH, STREAM = 0, 1, 2
EVER = (-(1 << 63), (1 << 63) - 1)

# two line items, the first with two items
NAMES = [("c", "l0", "acme"), ("ç", "l1", "")]
ITEMS = ["i0", "i1", "ï2"]
INDPTR = np.array([0, 2, 3])
BOARD = BidBoard(({}, {}, {}), {"USD": 0}, NAMES, ITEMS, INDPTR)

asked = st.builds(
    pb.BidRequest,
    bid_request_id=st.sampled_from(["a", "b", "ü"]),
    impressions=st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(
        lambda ids: [pb.Impression(impression_id=i) for i in ids]
    ),
)


@given(st.lists(st.lists(asked, max_size=3), max_size=3), st.integers(0, 2**32 - 1), st.text(max_size=4))
def test_answers_are_the_bytes_that_protobuf_writes(groups, seed, version):
    rng = np.random.default_rng(seed)
    flat = [request for group in groups for request in group]
    n = sum(len(request.impressions) for request in flat)
    lines = rng.integers(-1, 2, n).astype(np.int32)
    positions = np.where(lines == 0, rng.integers(0, 2, n), 0).astype(np.int32)
    columns = {
        "reasons": np.where(lines < 0, rng.integers(0, 11, n), 0).astype(np.int8),
        "tokens": [f"token-{row}" if line >= 0 else None for row, line in enumerate(lines)],
        "bid_cpm": rng.choice([0, 1, 10**15], n),
        "lines": lines,
        "positions": positions,
        "value_cpm": rng.choice([0, 127, 10**15], n),
        "probability": rng.choice([0.0, -0.0, 0.25, 1.0, np.nan], n),
    }
    responses, at = [], 0
    for request in flat:
        responses.append(plain_response(request, columns, at, version))
        at += len(request.impressions)
    kinds = {
        REQUEST: ([request.SerializeToString() for request in flat], [r.SerializeToString() for r in responses]),
        STREAM: (
            [pb.BidStreamRequest(request=request).SerializeToString() for request in flat],
            [pb.BidStreamResponse(bid_request_id=r.bid_request_id, response=r).SerializeToString() for r in responses],
        ),
        BATCH: ([pb.BidBatchRequest(requests=group).SerializeToString() for group in groups], []),
    }
    rest = iter(responses)
    for group in groups:
        kinds[BATCH][1].append(pb.BidBatchResponse(responses=[next(rest) for _ in group]).SerializeToString())
    for kind, (bodies, wanted) in kinds.items():
        calls = BidCalls(kind, bodies)
        calls.judge(NOW_MS, *EVER)
        answers = calls.answers(BOARD, version, **columns)
        assert answers == wanted
        assert bid_tokens(kind, answers) == [token for token in columns["tokens"] if token]
        refused = calls.refusals(INSUFFICIENT_TIME, version)
        assert not bid_tokens(kind, refused)
    for request, body in zip(flat, judged_refusals(flat, version), strict=True):
        bids = [pb.ImpressionBid(impression_id=i.impression_id, no_bid_reason=7) for i in request.impressions]
        assert pb.BidResponse.FromString(body) == pb.BidResponse(
            bid_request_id=request.bid_request_id, impressions=bids, artifact_version=version
        )


def judged_refusals(requests, version):
    calls = BidCalls(REQUEST, [request.SerializeToString() for request in requests])
    calls.judge(NOW_MS, *EVER)
    return calls.refusals(INSUFFICIENT_TIME, version)


def plain_response(request, columns, at, version):
    response = pb.BidResponse(bid_request_id=request.bid_request_id, artifact_version=version)
    for row, impression in enumerate(request.impressions, at):
        line = int(columns["lines"][row])
        if line < 0:
            reason = int(columns["reasons"][row])
            response.impressions.add(impression_id=impression.impression_id, no_bid_reason=reason)
            continue
        campaign_id, line_item_id, advertiser_id = NAMES[line]
        response.impressions.add(
            impression_id=impression.impression_id,
            bid_cpm_micros=int(columns["bid_cpm"][row]),
            campaign_id=campaign_id,
            line_item_id=line_item_id,
            advertiser_id=advertiser_id,
            item_id=ITEMS[int(INDPTR[line] + columns["positions"][row])],
            token=columns["tokens"][row],
            value_cpm_micros=int(columns["value_cpm"][row]),
            probability=float(columns["probability"][row]),
        )
    return response


@given(st.integers(0, 2), st.lists(st.binary(max_size=64), max_size=3))
def test_tokens_of_any_bytes(kind, answers):
    assert isinstance(bid_tokens(kind, answers), list)


@pytest.mark.parametrize("change", [{"lines": 2}, {"positions": 2}, {"positions": -1}])
def test_decisions_beyond_the_board_are_refused(change):
    request = pb.BidRequest(bid_request_id="a", impressions=[pb.Impression(impression_id="1")])
    calls = BidCalls(REQUEST, [request.SerializeToString()])
    calls.judge(NOW_MS, *EVER)
    zero = {"lines": 0, "positions": 0} | change
    columns = {name: np.array([value], np.int32) for name, value in zero.items()}
    money = {"bid_cpm": np.zeros(1, np.int64), "value_cpm": np.zeros(1, np.int64)}
    rest = {"reasons": np.zeros(1, np.int8), "tokens": ["t"], "probability": np.zeros(1)}
    with pytest.raises(ValueError, match="board"):
        calls.answers(BOARD, "v", **columns, **money, **rest)
