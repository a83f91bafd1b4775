"""The notice codec reads what protobuf's own classes read, refuses what the plain checks refuse, and never crashes."""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from headrace._native import NoticeCalls
from headrace.bidding.validation import check_micros, check_text
from headrace.errors import InvalidRequestError
from headrace.v1 import bidder_pb2 as pb


def check_notices(request):
    if not 1 <= len(request.notices) <= 1000:
        raise InvalidRequestError("notices", f"{len(request.notices)} entries", "1 to 1000")
    for notice in request.notices:
        if notice.type not in (1, 2, 3):
            raise InvalidRequestError("type", notice.type, "WIN, BILLING or LOSS")
        check_text("token", notice.token, 256)
        if notice.HasField("price_cpm_micros"):
            check_micros("price_cpm_micros", notice.price_cpm_micros)
        check_micros("minimum_to_win_cpm_micros", notice.minimum_to_win_cpm_micros)


def said(message):
    """The text of the plain checks' error; empty when there is none."""
    try:
        check_notices(message)
    except InvalidRequestError as error:
        return str(error)
    return ""


def errors(calls):
    """Texts of refused bodies."""
    return {
        body: str(InvalidRequestError(what, got, expected, hint))
        for body, _, _, what, got, expected, hint in calls.errors()
    }


int64 = st.integers(-(1 << 63), (1 << 63) - 1)
word = st.one_of(st.sampled_from(["ü" * 128, "ü" * 129, "nul\0", "€𝄞"]), st.text(max_size=8))
changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
notice = st.builds(
    pb.Notice,
    type=st.one_of(st.integers(1, 3), st.integers(-(1 << 31), (1 << 31) - 1)),
    token=st.one_of(st.just("t"), st.sampled_from(["", "t" * 256, "t" * 257]), word),
    price_cpm_micros=st.one_of(st.none(), st.integers(0, 5), st.sampled_from([10**16, 10**16 + 1]), int64),
    minimum_to_win_cpm_micros=st.one_of(st.none(), st.integers(-1, 5), st.just(10**16 + 1), int64),
)
good_notice = st.builds(
    pb.Notice,
    type=st.integers(1, 3),
    token=st.sampled_from(["t", "ü"]),
    price_cpm_micros=st.one_of(st.none(), st.integers(0, 5)),
    minimum_to_win_cpm_micros=st.one_of(st.none(), st.integers(0, 5)),
)


@given(st.lists(st.lists(st.one_of(good_notice, notice), max_size=3), max_size=4), st.integers(0, 2**32 - 1))
def test_notices_are_read_and_answered(groups, seed):
    requests = [pb.NotifyRequest(notices=group) for group in groups]
    calls = NoticeCalls([request.SerializeToString() for request in requests])
    texts = {i: text for i, request in enumerate(requests) if (text := said(request))}
    assert errors(calls) == texts
    kept = [each for i, request in enumerate(requests) if i not in texts for each in request.notices]
    types, tokens, prices, minimums = calls.columns()
    assert types.tolist() == [each.type for each in kept]
    assert tokens == [each.token for each in kept]
    assert prices.tolist() == [each.price_cpm_micros if each.HasField("price_cpm_micros") else -1 for each in kept]
    assert minimums.tolist() == [each.minimum_to_win_cpm_micros or -1 for each in kept]
    outcomes = np.random.default_rng(seed).integers(0, 8, len(kept)).astype(np.int8)
    rest = iter(outcomes.tolist())
    wanted = [
        b"" if i in texts else pb.NotifyResponse(outcomes=[next(rest) for _ in request.notices]).SerializeToString()
        for i, request in enumerate(requests)
    ]
    assert calls.answers(outcomes) == wanted


@given(
    st.one_of(st.binary(max_size=40), notice.map(lambda n: pb.NotifyRequest(notices=[n]).SerializeToString())), changes
)
def test_notices_are_a_message_exactly_when_protobuf_says_so(body, flips):
    changed = bytearray(body)
    for at, value in flips:
        if changed:
            changed[at % len(changed)] = value
    calls = NoticeCalls([bytes(changed)])
    malformed = any(not what for _, _, _, what, *_ in calls.errors())
    try:
        request = pb.NotifyRequest.FromString(bytes(changed))
    except DecodeError:
        assert malformed
        return
    assert not malformed
    assert bool(calls.errors()) == bool(said(request))


def test_a_thousand_notices_and_one_more():
    bodies = [pb.NotifyRequest(notices=[pb.Notice(type=1, token="t")] * n).SerializeToString() for n in (1000, 1001)]
    calls = NoticeCalls(bodies)
    assert errors(calls) == {1: "notices: got '1001 entries', expected 1 to 1000"}
    assert len(calls.columns()[1]) == 1000
