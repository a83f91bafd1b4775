"""The bid codec reads what protobuf's own classes read, refuses what the plain checks refuse, and never crashes."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from headrace._native import BidBoard, BidCalls, hash_texts
from headrace.bidding.requests import PlainWords
from headrace.bidding.validation import check_micros, check_text, checked_currency
from headrace.errors import InvalidRequestError
from headrace.events.identity import subject_name
from headrace.v1 import bidder_pb2 as pb

NOW_MS = 1_700_000_000_000
REQUEST, BATCH, STREAM = 0, 1, 2
EVER = (-(1 << 63), (1 << 63) - 1)


# -- the plain checks


def check_words(what, words, most):
    if len(words) > most:
        raise InvalidRequestError(what, f"{len(words)} entries", f"at most {most}")
    for word in words:
        check_text(what, word, 64, empty=True)


def check_request(request):
    check_text("bid_request_id", request.bid_request_id, 128)
    check_text("user_id", request.user_id, 256, empty=True)
    check_text("anonymous_id", request.anonymous_id, 256, empty=True)
    check_text("exchange", request.exchange, 64, empty=True)
    if request.user_id and request.anonymous_id:
        raise InvalidRequestError("anonymous_id", request.anonymous_id, "nothing beside user_id", "send one of the two")
    if "\0" in request.user_id or "\0" in request.anonymous_id:
        raise InvalidRequestError("user_id and anonymous_id", "a NUL character", "text without it")
    if request.country and not re.fullmatch("[A-Z]{2}", request.country):
        raise InvalidRequestError("country", request.country, "ISO 3166-1 alpha-2 in upper case, or nothing")
    if request.currency:
        checked_currency(request.currency)
    if request.auction_type not in pb.AuctionType.values():
        raise InvalidRequestError("auction_type", request.auction_type, "a value of the contract's list")
    check_words("categories", request.categories, 16)
    check_words("user_segments", request.user_segments, 64)
    if not 1 <= len(request.impressions) <= 64:
        raise InvalidRequestError("impressions", f"{len(request.impressions)} entries", "1 to 64")
    for impression in request.impressions:
        check_text("impression_id", impression.impression_id, 64)
        check_text("placement", impression.placement, 64, empty=True)
        check_micros("floor_cpm_micros", impression.floor_cpm_micros)
    if len({impression.impression_id for impression in request.impressions}) < len(request.impressions):
        raise InvalidRequestError("impression_id", "one twice", "each once in a request")


def said(check, message):
    """The text of a check's error; empty when there is none."""
    try:
        check(message)
    except InvalidRequestError as error:
        return str(error)
    return ""


# -- messages

int64 = st.integers(-(1 << 63), (1 << 63) - 1)
word = st.one_of(
    st.sampled_from(["", "DE", "shoes", "ü" * 32, "x" * 64, "x" * 65, "ü" * 33, "nul\0", "€𝄞"]), st.text(max_size=8)
)
impression = st.builds(
    pb.Impression,
    impression_id=st.one_of(st.sampled_from("abcdefgh"), word),
    floor_cpm_micros=st.one_of(st.integers(0, 9), st.sampled_from([-1, 10**16, 10**16 + 1]), int64),
    placement=st.one_of(st.just(""), word),
)
wrong_now_and_then = st.one_of(st.just(""), st.just(""), st.just(""), word)
request = st.builds(
    pb.BidRequest,
    bid_request_id=st.one_of(st.just("auction"), st.sampled_from(["", "x" * 128, "x" * 129]), word),
    impressions=st.one_of(
        st.lists(impression, max_size=4),
        st.integers(60, 66).map(lambda n: [pb.Impression(impression_id=str(i)) for i in range(n)]),
    ),
    user_id=st.one_of(wrong_now_and_then, st.sampled_from(["u" * 256, "u" * 257])),
    anonymous_id=wrong_now_and_then,
    country=st.one_of(st.sampled_from(["", "DE", "FR", "de", "DEU"]), wrong_now_and_then),
    categories=st.one_of(st.lists(word, max_size=3), st.just(["shoes"] * 16), st.just(["c"] * 17)),
    time_ms=st.one_of(st.just(0), st.integers(NOW_MS - 5, NOW_MS + 5), int64),
    exchange=wrong_now_and_then,
    auction_type=st.one_of(st.integers(0, 2), st.integers(-(1 << 31), (1 << 31) - 1)),
    currency=st.one_of(st.sampled_from(["", "USD", "EUR", "usd", "ÄÖÜ"]), wrong_now_and_then),
    user_segments=st.one_of(st.lists(word, max_size=3), st.just(["vip"] * 64), st.just(["s"] * 65)),
    tmax_ms=st.integers(0, (1 << 32) - 1),
)
simple = st.builds(
    pb.BidRequest,
    bid_request_id=st.sampled_from(["a", "b", "c"]),
    impressions=st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(
        lambda ids: [pb.Impression(impression_id=i, floor_cpm_micros=ord(i), placement=i * 2) for i in ids]
    ),
    user_id=st.sampled_from(["", "ann"]),
    country=st.sampled_from(["", "DE", "FR"]),
    categories=st.lists(st.sampled_from(["shoes", "hats", "unheard"]), max_size=3),
    time_ms=st.sampled_from([0, NOW_MS, NOW_MS + 6, -1]),
    exchange=st.sampled_from(["", "adx"]),
    auction_type=st.integers(0, 2),
    currency=st.sampled_from(["", "USD", "EUR", "GBP"]),
    user_segments=st.lists(st.sampled_from(["vip", "shoes"]), max_size=2),
    tmax_ms=st.integers(0, 3),
)


def made_board():
    """The words that `PlainWords` and the codec need of a board, which has no line items."""
    board = SimpleNamespace(
        vocabularies=({"DE": 0}, {"shoes": 1, "x" * 64: 2}, {"vip": 3, "ü" * 32: 4}),
        currencies={"EUR": 0, "USD": 1},
    )
    board.native = BidBoard(board.vocabularies, board.currencies, [], [], np.zeros(1, np.int64))
    return board


BOARD = made_board()


def judged(kind, *bodies, now_ms=NOW_MS, slack=5):
    calls = BidCalls(kind, list(bodies))
    calls.judge(now_ms, now_ms - slack, now_ms + slack)
    return calls


def errors(calls):
    """Texts of refused bodies; None for what is no message."""
    found = {}
    for body, position, _, what, got, expected, hint in calls.errors():
        text = str(InvalidRequestError(what, got, expected, hint)) if what else None
        found[body] = f"requests[{position}]: {text}" if position >= 0 else text
    return found


def assert_columns(calls, messages):
    names, exchanges, time_ms, first_price, tmax_ms, _, seeds, row, floor_cpm, placements = calls.columns()
    assert names == [subject_name(message.user_id, message.anonymous_id) for message in messages]
    assert exchanges == [message.exchange for message in messages]
    assert time_ms.tolist() == [message.time_ms or NOW_MS for message in messages]
    assert first_price.tolist() == [message.auction_type == pb.AUCTION_TYPE_FIRST_PRICE for message in messages]
    assert tmax_ms.tolist() == [message.tmax_ms for message in messages]
    assert row.tolist() == [i for i, message in enumerate(messages) for _ in message.impressions]
    assert floor_cpm.tolist() == [each.floor_cpm_micros for message in messages for each in message.impressions]
    assert placements == [each.placement for message in messages for each in message.impressions]
    np.testing.assert_array_equal(seeds, hash_texts([message.bid_request_id for message in messages]))
    plain = PlainWords(
        [message.country for message in messages],
        [message.categories for message in messages],
        [message.user_segments for message in messages],
        [message.currency or "USD" for message in messages],
    )
    for ours, theirs in zip(calls.terms(BOARD.native), plain.terms(BOARD), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# -- requests


@given(st.lists(request, max_size=3))
def test_each_request_is_read_or_refused_as_the_plain_checks_do(messages):
    calls = BidCalls(REQUEST, [message.SerializeToString() for message in messages])
    assert errors(calls) == {i: text for i, message in enumerate(messages) if (text := said(check_request, message))}


@given(st.lists(st.one_of(simple, request), max_size=3))
def test_what_is_right_is_read_in_full(messages):
    messages = [message for message in messages if not said(check_request, message)]
    calls = BidCalls(REQUEST, [message.SerializeToString() for message in messages])
    latest = 253_402_300_799_999 - 2 * 86_400_000
    assert calls.latest_ms() == max([0, *(m.time_ms for m in messages if m.time_ms <= latest)])
    calls.judge(NOW_MS, *EVER)
    assert set(errors(calls)) == {i for i, message in enumerate(messages) if message.time_ms > latest}
    assert_columns(calls, [message for message in messages if message.time_ms <= latest])


@given(st.lists(simple, max_size=4))
def test_a_wrong_time_is_refused_and_its_companions_are_not(messages):
    calls = judged(REQUEST, *(message.SerializeToString() for message in messages))
    late = [i for i, message in enumerate(messages) if message.time_ms not in (0, NOW_MS)]
    hint = "zero is now; check the sender's clock, or replay a past day with server.clock = requests"
    span = f"{NOW_MS - 5} to {NOW_MS + 5}, ms since 1970 UTC"
    assert errors(calls) == {i: str(InvalidRequestError("time_ms", messages[i].time_ms, span, hint)) for i in late}
    assert_columns(calls, [message for i, message in enumerate(messages) if i not in late])
    assert calls.columns()[5].tolist() == [i for i in range(len(messages)) if i not in late]


@given(st.lists(st.lists(st.one_of(simple, request), max_size=3), max_size=3))
def test_one_wrong_request_fails_its_whole_batch(batches):
    calls = judged(BATCH, *(pb.BidBatchRequest(requests=batch).SerializeToString() for batch in batches))
    wanted, kept = {}, []
    for number, batch in enumerate(batches):
        wrong = [(i, bool(said(check_request, each))) for i, each in enumerate(batch)]
        bad = [(i, text) for i, text in wrong if text or not in_time(batch[i])]
        if not batch:
            wanted[number] = "requests: got '0 entries', expected 1 to 256; split the batch"
        elif bad:
            first, malformed = bad[0]
            text = said(check_request, batch[first]) if malformed else "time_ms"
            wanted[number] = f"requests[{first}]: {text}"
        else:
            kept += batch
    found = errors(calls)
    assert found.keys() == wanted.keys()
    assert all(found[number].startswith(text) for number, text in wanted.items())
    assert_columns(calls, kept)


def in_time(message):
    return message.time_ms == 0 or NOW_MS - 5 <= message.time_ms <= NOW_MS + 5


@pytest.mark.parametrize(("n", "right"), [(256, True), (257, False), (20_000, False)])
def test_a_batch_beyond_its_limit_is_refused(n, right):
    one = pb.BidRequest(bid_request_id="a", impressions=[pb.Impression(impression_id="1")])
    body = pb.BidBatchRequest(requests=[one] * n).SerializeToString()
    calls = judged(BATCH, body, pb.BidBatchRequest(requests=[one]).SerializeToString())
    said = f"requests: got '{n} entries', expected 1 to 256; split the batch"
    assert errors(calls) == ({} if right else {0: said})
    assert len(calls.columns()[0]) == (n + 1 if right else 1)


@given(st.lists(simple, min_size=1, max_size=3))
def test_a_field_given_twice_is_merged(parts):
    merged = pb.BidRequest()
    for part in parts:
        merged.MergeFrom(part)
    bodies = {
        REQUEST: b"".join(part.SerializeToString() for part in parts),
        STREAM: b"".join(pb.BidStreamRequest(request=part).SerializeToString() for part in parts),
    }
    for kind, body in bodies.items():
        calls = BidCalls(kind, [body])
        text = said(check_request, merged)
        assert errors(calls) == ({0: text} if text else {})
        if not text:
            calls.judge(NOW_MS, *EVER)
            assert_columns(calls, [merged])


def test_a_stream_message_without_a_request_lacks_its_id():
    assert errors(BidCalls(STREAM, [b""]))[0].startswith("bid_request_id")
    ((_, _, bid_request_id, *_),) = BidCalls(STREAM, [b"\n\x07\n\x05adx-1"]).errors()
    assert bid_request_id == "adx-1"


MESSAGES = {REQUEST: pb.BidRequest, BATCH: pb.BidBatchRequest, STREAM: pb.BidStreamRequest}
wrapped = st.one_of(
    request,
    st.lists(request, max_size=2).map(lambda some: pb.BidBatchRequest(requests=some)),
    request.map(lambda one: pb.BidStreamRequest(request=one)),
).map(lambda message: message.SerializeToString())
changes = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3)
unknown = st.sampled_from(
    [
        b"",
        b"\xa0\x06\x01",
        b"\xa3\x06\x08\x01\xa4\x06",
        b"\xa1\x06" + bytes(8),
        b"\xa5\x06" + bytes(4),
        b"\x0d" + bytes(4),
    ]
)


@given(st.sampled_from([REQUEST, BATCH, STREAM]), st.one_of(wrapped, st.binary(max_size=64)), changes, unknown)
@example(REQUEST, b"\n\x01\xff", [], b"")
@example(REQUEST, b"\x0a\xff\xff\xff\xff\x0f", [], b"")
@example(REQUEST, b"\x38" + b"\xff" * 9 + b"\x02", [], b"")
@example(REQUEST, b"\x48" + b"\xff" * 9 + b"\x01", [], b"")
@example(REQUEST, b"\x38" + b"\xff" * 10 + b"\x01", [], b"")
@example(REQUEST, b"\xb8\x80\x80\x80\x00\x05", [], b"")
@example(REQUEST, b"\xb8\x80\x80\x80\x80\x00\x05", [], b"")
@example(REQUEST, b"\x0a\x81\x80\x80\x80\x00a", [], b"")
@example(REQUEST, b"\x0a\x81\x80\x80\x80\x80\x00a", [], b"")
@example(REQUEST, b"\x03\x04", [], b"")
@example(REQUEST, b"\xa3\x06" * 100 + b"\xa4\x06" * 100, [], b"")
@example(REQUEST, b"\xa3\x06" * 101 + b"\xa4\x06" * 101, [], b"")
def test_bytes_are_a_message_exactly_when_protobuf_says_so(kind, body, flips, more):
    changed = bytearray(more + body)
    for at, value in flips:
        if changed:
            changed[at % len(changed)] = value
    body = bytes(changed)
    calls = BidCalls(kind, [body])
    malformed = any(not what for _, _, _, what, *_ in calls.errors())
    try:
        message = MESSAGES[kind].FromString(body)
    except DecodeError:
        assert malformed
        return
    assert not malformed
    calls.judge(NOW_MS, *EVER)
    one = message.request if kind == STREAM else message
    if kind != BATCH:
        assert bool(calls.errors()) == bool(
            said(check_request, one) or one.time_ms > 253_402_300_799_999 - 2 * 86_400_000
        )
        assert_columns(calls, [] if calls.errors() else [one])


def test_hashes_of_texts_are_the_same_everywhere_and_differ_in_all_bits():
    # FNV-1a's offset basis and the published value of "a", each through SplitMix64's finish
    def finish(x):
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        return x ^ x >> 31

    assert hash_texts(["", "a"]).tolist() == [finish(0xCBF29CE484222325), finish(0xAF63DC4C8601EC8C)]
    many = hash_texts([f"request-{n}" for n in range(4096)])
    bits = np.unpackbits(many.view(np.uint8)).reshape(4096, 64).mean(axis=0)
    assert (np.abs(bits - 0.5) < 0.05).all()
