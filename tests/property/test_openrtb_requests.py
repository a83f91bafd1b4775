"""Whatever JSON comes, an OpenRTB request is read whole or refused, and what is read can be asked of the engine."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import InvalidRequestError
from headrace.service.consent import may_know
from headrace.service.notices import TYPES, read_notice
from headrace.service.openrtb import Asked, categories_of, columns, decode, exchange_of, payable, segments_of

WORDS = st.text(max_size=70)
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | WORDS
ANY = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with any of these fields, each as it should be or anything else."""
    return st.fixed_dictionaries({}, optional=fields)


def mostly(right: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(right, right, right, ANY)


CURRENCY = st.sampled_from(["USD", "EUR", "", "usd"])
MEDIA = st.just({})
PRICE = mostly(st.floats(0, 1e9) | st.integers(0, 10**9))
IMPRESSION = st.fixed_dictionaries(
    {"id": mostly(st.sampled_from(list("abcdefgh")))},
    optional={"banner": mostly(MEDIA), "video": mostly(MEDIA), "bidfloor": PRICE, "bidfloorcur": mostly(CURRENCY)},
)
FLAG = mostly(st.integers(0, 1))
PLACE = mostly(some(cat=mostly(st.lists(WORDS, max_size=20)), pagecat=mostly(st.lists(WORDS))))
SEGMENTS = st.lists(some(segment=mostly(st.lists(some(id=mostly(WORDS))))), max_size=3)
USER = some(id=mostly(WORDS), buyeruid=mostly(WORDS), consent=mostly(WORDS), data=mostly(SEGMENTS))
REQUEST = st.fixed_dictionaries(
    {"id": mostly(st.text(min_size=1, max_size=20)), "imp": mostly(st.lists(IMPRESSION, max_size=4))},
    optional={
        "site": PLACE,
        "app": PLACE,
        "user": mostly(USER),
        "device": mostly(some(geo=mostly(some(country=mostly(WORDS))), lmt=FLAG)),
        "regs": mostly(some(coppa=FLAG, gdpr=FLAG, us_privacy=mostly(WORDS))),
        "cur": mostly(st.lists(CURRENCY, max_size=3)),
        "at": mostly(st.integers(1, 3)),
        "ext": ANY,
    },
)


def check(body: bytes) -> None:
    try:
        request = decode(body)
    except InvalidRequestError:
        return
    currency, impressions = payable(request)
    assert {impression.id for impression in impressions} <= {impression.id for impression in request.imp}
    if not impressions:
        return
    segments = segments_of(request.user) if request.user is not None and may_know(request) else []
    asked = Asked(request, impressions, currency, "adx", "", segments)
    given = columns([asked, asked], [1.0, np.inf], 1)
    assert (given.floor_cpm >= 0).all()
    assert len(given.request) == 2 * len(impressions)
    assert len(categories_of(request)) <= 16


@given(REQUEST)
def test_requests_with_any_field_wrong(request: Any) -> None:
    check(json.dumps(request).encode())


@given(ANY)
def test_any_json(anything: Any) -> None:
    check(json.dumps(anything).encode())


@given(REQUEST, st.integers(0, 400), st.binary(max_size=3))
def test_damaged_bytes(request: Any, at: int, damage: bytes) -> None:
    body = json.dumps(request).encode()
    check(body[:at] + damage + body[at + len(damage) :])


@given(st.binary(max_size=200), st.sampled_from(sorted(TYPES)))
def test_any_query_of_a_notice(query: bytes, path: str) -> None:
    kind, token, price, minimum = read_notice(path, query)
    assert kind == TYPES[path]
    assert isinstance(token, str)
    assert -1 <= price <= 10**16
    assert -1 <= minimum <= 10**16
    exchange_of(query.decode("latin-1"))
