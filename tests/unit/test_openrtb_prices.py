"""Prices between decimals and micros, countries, and consent: tables worked out by hand."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.service.consent import may_know
from headrace.service.countries import ALPHA_2, country_of
from headrace.service.openrtb_models import BidRequest
from headrace.service.prices import decimal_of, floor_micros, price_micros

MICROS = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("micros", "text"),
    [(0, b"0.000000"), (1, b"0.000001"), (1_250_000, b"1.250000"), (10**15, b"1000000000.000000")],
)
def test_micros_as_decimals(micros: int, text: bytes) -> None:
    assert decimal_of(micros) == text


@given(MICROS)
def test_decimals_come_back_as_the_same_micros(micros: int) -> None:
    assert price_micros(decimal_of(micros).decode()) == micros


@given(MICROS)
def test_a_floor_with_six_places_is_exact(micros: int) -> None:
    assert floor_micros(msgspec.json.decode(decimal_of(micros), type=float)) == micros


@given(st.decimals(0, 10**6, places=9))
def test_a_floor_is_never_rounded_down(floor: object) -> None:
    assert floor_micros(float(str(floor))) / 1e6 >= float(str(floor))


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1.25", 1_250_000),
        ("0.0000001", 1),  # what is paid is never booked too low
        ("3", 3_000_000),
        ("1e-3", 1_000),
        ("2.", 2_000_000),
        ("", None),
        ("NaN", None),
        ("Infinity", None),
        ("-1", None),
        ("1,25", None),
        ("${AUCTION_PRICE}", None),
        ("0x10", None),
        ("1e99", None),
        ("9" * 40, None),
        ("1 ", None),
        ("١", None),
    ],
)
def test_prices_of_notices(text: str, micros: int | None) -> None:
    assert price_micros(text) == micros


def test_countries() -> None:
    assert len(ALPHA_2) == len(set(ALPHA_2.values())) == 249
    named = {"DEU": "DE", "USA": "US", "GBR": "GB", "CHE": "CH", "deu": "DE", "FR": "FR", "XKX": "XK"}
    named |= dict.fromkeys(("XXX", "", "D", "ß", "1A", "DEUT"), "")
    assert {code: country_of(code) for code in named} == named
    assert country_of(None) == ""


def consent_string(*purposes: int, version: int = 2) -> str:
    bits = f"{version:06b}".ljust(152, "0") + "".join("01"[n in purposes] for n in range(1, 25))
    return base64.urlsafe_b64encode(int(bits, 2).to_bytes(22, "big")).decode().rstrip("=")


BOTH = consent_string(1, 4)


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, True),
        ({"regs": {"coppa": 1}}, False),
        ({"regs": {"coppa": 0, "gdpr": 0}}, True),
        ({"regs": {"gdpr": 1}}, False),
        ({"regs": {"ext": {"gdpr": 1}}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": ""}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": BOTH}}, True),
        ({"regs": {"gdpr": 1}, "user": {"consent": BOTH + ".IAAA"}}, True),
        ({"regs": {"ext": {"gdpr": 1}}, "user": {"ext": {"consent": BOTH}}}, True),
        ({"regs": {"gdpr": 1}, "user": {"consent": consent_string(1)}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": consent_string(4)}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": consent_string(1, 4, version=1)}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": "no base64!"}}, False),
        ({"regs": {"gdpr": 1}, "user": {"consent": BOTH[:20]}}, False),
        ({"regs": {"us_privacy": "1YNN"}}, True),
        ({"regs": {"us_privacy": "1YYN"}}, False),
        ({"regs": {"ext": {"us_privacy": "1YYN"}}}, False),
        ({"device": {"lmt": 1}}, False),
        ({"device": {"dnt": 1}}, False),
    ],
)
def test_without_consent_the_user_is_not_known(fields: dict[str, object], allowed: bool) -> None:
    request = msgspec.convert({"id": "r", "imp": [{"id": "1"}], **fields}, BidRequest)
    assert may_know(request) is allowed
