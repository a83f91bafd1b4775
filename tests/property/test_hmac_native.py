"""The native HMAC and its tokens agree with Python's own, for any length of message and secret."""

from __future__ import annotations

import base64
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._native import HmacKey


@given(st.binary(max_size=64), st.binary(max_size=300))
def test_macs(secret, message):
    assert HmacKey(secret).mac(message) == hmac.digest(secret, message, "sha256")


def test_every_length_around_the_blocks():
    for size in range(260):
        message = bytes(range(256))[:size] + bytes(max(size - 256, 0))
        assert HmacKey(b"key").mac(message) == hmac.digest(b"key", message, "sha256")


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_signed_bodies(n, seed):
    secret = b"s" * 32
    bodies = np.random.default_rng(seed).integers(0, 256, (n, 59), dtype=np.uint8)
    raw = [body.tobytes() + hmac.digest(secret, body.tobytes(), "sha256")[:16] for body in bodies]
    assert HmacKey(secret).sign(bodies.tobytes(), 59, 16) == [base64.urlsafe_b64encode(each).decode() for each in raw]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="at most 64 bytes"):
        HmacKey(bytes(65))
    with pytest.raises(ValueError, match="fills no letters"):
        HmacKey(b"key").sign(bytes(59), 59, 15)
    with pytest.raises(ValueError, match="fills no letters"):
        HmacKey(b"key").sign(bytes(59), 59, 34)
    for size in (0, 60):
        with pytest.raises(ValueError, match="one size each"):
            HmacKey(b"key").sign(bytes(59), size, 16)
