"""The recommendation codec against the generated protobuf classes, on messages and on bytes that are none."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from headrace import _native
from headrace.events.identity import subject_name
from headrace.ids import IdTable
from headrace.v1 import recommender_pb2 as pb

ITEM_IDS = ["tea", "cup", "größe", 'quo"ted\\', "line\nend\t\x01", "日本"]
IDS = st.one_of(st.text(max_size=8), st.sampled_from(["x" * 256, "x" * 257, "ü" * 128, "ü" * 129, "nul\0"]))
U64 = st.one_of(st.integers(0, 300), st.sampled_from([2**31, 2**32 - 1, 2**63, 2**64 - 1]))

REQUESTS = st.builds(
    pb.RecommendRequest,
    user_id=IDS,
    anonymous_id=IDS,
    limit=st.one_of(st.none(), st.integers(0, 1002), st.just(2**32 - 1)),
    repeat_policy=st.sampled_from([0, 1, 2, 3, -1, 2**31 - 1]),
    exclude_item_ids=st.lists(st.sampled_from([*ITEM_IDS, "ghost", ""]), max_size=5),
    session_item_ids=st.lists(st.sampled_from([*ITEM_IDS, "ghost", "", "x" * 257]), max_size=4),
    min_sequence=U64,
    include_attributes=st.booleans(),
    surface=st.one_of(st.text(max_size=6), st.sampled_from(["s" * 64, "s" * 65])),
)


def rows() -> _native.ItemRows:
    table = IdTable.build(ITEM_IDS)
    return _native.ItemRows(table.offsets, table.blob)


def read(bodies: list[bytes]) -> tuple[Any, ...]:
    return _native.read_slate_requests(bodies, rows(), 256, 64, 3, 2, 1000, 20, 3)


def parse(body: bytes) -> pb.RecommendRequest | None:
    try:
        return pb.RecommendRequest.FromString(body)
    except DecodeError:
        return None


def is_good(request: pb.RecommendRequest) -> bool:
    ids = (request.user_id, request.anonymous_id, request.surface)
    return (
        all(len(text.encode()) <= most and "\0" not in text for text, most in zip(ids, (256, 256, 64), strict=True))
        and len(request.exclude_item_ids) <= 3
        and len(request.session_item_ids) <= 2
        and all(len(item) <= 256 for item in request.session_item_ids)
        and request.repeat_policy in (0, 1, 2)
        and (not request.HasField("limit") or 1 <= request.limit <= 1000)
    )


def check(bodies: list[bytes]) -> None:
    names, surfaces, sequences, limits, policies, excluded, excluded_rows, session, session_rows, *rest = read(bodies)
    attributes, bad = rest
    parsed = [parse(body) for body in bodies]
    assert bad.tolist() == [i for i, request in enumerate(parsed) if request is None or not is_good(request)]
    good = [request for request in parsed if request is not None and is_good(request)]
    assert names == [subject_name(request.user_id, request.anonymous_id) for request in good]
    assert surfaces == [request.surface for request in good]
    assert sequences == [request.min_sequence for request in good]
    assert limits.tolist() == [request.limit if request.HasField("limit") else 20 for request in good]
    assert policies.tolist() == [request.repeat_policy for request in good]
    assert attributes.tolist() == [request.include_attributes for request in good]
    known = [[ITEM_IDS.index(item) for item in request.exclude_item_ids if item in ITEM_IDS] for request in good]
    assert [excluded_rows[a:z].tolist() for a, z in pairwise(excluded.tolist())] == known
    seen = [[ITEM_IDS.index(item) for item in request.session_item_ids if item in ITEM_IDS] for request in good]
    assert [session_rows[a:z].tolist() for a, z in pairwise(session.tolist())] == seen


@given(requests=st.lists(REQUESTS, max_size=4))
def test_valid_requests_read_as_protobuf_reads_them(requests: list[pb.RecommendRequest]) -> None:
    check([request.SerializeToString() for request in requests])


@given(first=REQUESTS, second=REQUESTS)
def test_a_field_given_twice_counts_as_protobuf_has_it(first: pb.RecommendRequest, second: pb.RecommendRequest) -> None:
    check([first.SerializeToString() + second.SerializeToString()])


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


FIELD = st.one_of(
    st.tuples(st.just(0), U64.map(varint)),
    st.tuples(st.just(1), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(2), st.binary(max_size=9).map(lambda raw: varint(len(raw)) + raw)),
    st.tuples(st.just(5), st.binary(min_size=4, max_size=4)),
)
"""A wire type and a value of it."""

NUMBERS = st.one_of(st.integers(1, 12), st.sampled_from([100, 2**29 - 1]))


def fields_of(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    fields = st.lists(st.tuples(numbers, FIELD), max_size=6)
    return fields.map(lambda some: b"".join(varint(number << 3 | kind) + value for number, (kind, value) in some))


FIELDS = fields_of(NUMBERS | st.just(0))


@given(fields=FIELDS, inside=fields_of(NUMBERS), request=REQUESTS)
def test_unknown_fields_and_foreign_wire_types_are_passed_over(
    fields: bytes, inside: bytes, request: pb.RecommendRequest
) -> None:
    # protobuf lets a field number of 0 pass inside a group; the codec does not
    group = varint(15 << 3 | 3) + inside + varint(15 << 3 | 4)
    check([fields, fields + request.SerializeToString(), group + request.SerializeToString()])


@given(request=REQUESTS, cut=st.integers(0, 40), flip=st.integers(0, 40), value=st.integers(0, 255))
def test_cut_and_changed_messages_are_errors_where_protobuf_says_so(
    request: pb.RecommendRequest, cut: int, flip: int, value: int
) -> None:
    body = request.SerializeToString()
    changed = bytearray(body)
    if flip < len(changed):
        changed[flip] = value
    check([body[:cut], bytes(changed), body])


@given(bodies=st.lists(st.binary(max_size=24), max_size=4))
def test_any_bytes_are_read_or_refused_as_protobuf_does(bodies: list[bytes]) -> None:
    check(bodies)


@pytest.mark.parametrize("body", [b"\x0a\x01\xff", b"\x12\x02\xc0\x80", b"\x2a\x03\xed\xa0\x80", b"\x42\x01\x80"])
def test_texts_that_are_not_utf8_are_errors(body: bytes) -> None:
    assert parse(body) is None
    assert read([body])[-1].tolist() == [0]


@given(requests=st.lists(REQUESTS, max_size=4), fields=FIELDS)
def test_batches_split_as_protobuf_splits_them(requests: list[pb.RecommendRequest], fields: bytes) -> None:
    batch = pb.RecommendBatchRequest(requests=requests).SerializeToString()
    assert _native.split_slate_batch(batch) == [request.SerializeToString() for request in requests]
    try:
        n: int | None = len(pb.RecommendBatchRequest.FromString(fields + batch).requests)
    except DecodeError:
        n = None
    split = _native.split_slate_batch(fields + batch)
    if n is not None:
        assert split is not None
        assert len(split) == n
    elif split is not None:  # a request inside is malformed, which reading it tells
        assert any(parse(body) is None for body in split)


@given(
    n=st.integers(0, 3),
    k=st.integers(1, 5),
    sequence=U64,
    tier=st.integers(0, 3),
    version=st.text(max_size=5),
    prices=st.lists(st.sampled_from([0, 1, -1, 2**62, -(2**63)]), min_size=6, max_size=6),
    data=st.data(),
)
def test_responses_parse_back_equal(
    n: int, k: int, sequence: int, tier: int, version: str, prices: list[int], data: st.DataObject
) -> None:
    items, ids = rows(), [f"id{i}" * i for i in range(n)]
    for row, price in enumerate(prices):
        items.set_price(row, price)
    chosen = np.array(data.draw(st.lists(st.integers(0, 5), min_size=n * k, max_size=n * k)), np.int32).reshape(n, k)
    floats = st.floats(width=32, allow_nan=False)
    scores = np.array(data.draw(st.lists(floats, min_size=n * k, max_size=n * k)), np.float32).reshape(n, k)
    counts = np.array(data.draw(st.lists(st.integers(0, k), min_size=n, max_size=n)), np.int32)
    tiers = np.full(n, tier, np.int32)
    written = _native.write_slates(items, ids, version, sequence, tiers, 3, chosen, scores, counts)
    for i, body in enumerate(written):
        wanted = pb.RecommendResponse(
            request_id=ids[i], artifact_version=version, event_sequence=sequence, tier=tier, cold_start=tier == 3
        )  # type: ignore[arg-type]
        for row, score in zip(chosen[i, : counts[i]].tolist(), scores[i].tolist(), strict=False):
            wanted.items.add(item_id=ITEM_IDS[row], score=score, price_micros=prices[row])
        assert body == wanted.SerializeToString(deterministic=True)
        assert json.loads(items.json_ids(chosen[i, : counts[i]])) == [item.item_id for item in wanted.items]
    joined = pb.RecommendBatchResponse.FromString(_native.join_slate_batch(written))
    assert [each.SerializeToString() for each in joined.responses] == written


def test_rows_beyond_the_items_are_refused() -> None:
    one, six = np.ones(1, np.int32), np.full((1, 1), 6, np.int32)
    with pytest.raises(ValueError, match="beyond the items"):
        _native.write_slates(rows(), ["id"], "", 0, one, 3, six, np.ones((1, 1), np.float32), one)
    with pytest.raises(ValueError, match="beyond the items"):
        rows().json_ids(np.array([-1], dtype=np.int32))
    with pytest.raises(IndexError):
        rows().price(6)
    with pytest.raises(ValueError, match="beyond the blob"):
        _native.ItemRows(np.array([0, 5], dtype=np.int64), np.zeros(3, dtype=np.uint8))
