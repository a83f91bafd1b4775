"""Tokens: what a bid carries so that its notices need nothing else.

A token is 100 characters of URL-safe base64 over a fixed struct and the first 16 bytes of its HMAC-SHA256 (RFC 2104).
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace import durable
from headrace._native import HmacKey
from headrace.errors import LedgerError
from headrace.types import Int64

BODY = np.dtype(
    [
        ("version", "u1"),
        ("key", "<u2"),
        ("account", "<i4"),
        ("lease", "<i8"),
        ("serial", "<u4"),
        ("day", "<i4"),
        ("cpm", "<i8"),  # reserved, micros of the account's currency per thousand impressions
        ("currency", "S3"),
        ("rate", "<i8"),  # frozen: micros of the account's currency for one unit of the exchange's
        ("exchange", "<u8"),  # short hash of its name
        ("issued_ms", "<i8"),
        ("padding", "u1"),
    ]
)
MAC_BYTES = 16
TOKEN_BYTES = BODY.itemsize + MAC_BYTES
TOKEN_LENGTH = TOKEN_BYTES // 3 * 4
SAME_CURRENCY = 1_000_000
VERSION = 1

# one spelling a token: the standard alphabet's own signs are no part of ours, and its padding would shorten a body
_STANDARD = bytes.maketrans(b"-_+/=", b"+/***")

Claim = tuple[int, int, int, int, int, bytes, int, int, int]
"""What a token says, in the order of BODY: account, lease, serial, day, CPM, currency, rate, exchange, issue time."""

Bodies = npt.NDArray[np.void]
"""(n,) of BODY."""

assert TOKEN_BYTES % 3 == 0, "tokens are encoded in one piece, so each must fill whole base64 groups"


class TokenKeys:
    """Signs and verifies tokens with the keys of one data directory; made there, mode 0600, when absent.

    Raises LedgerError when the key file cannot be read as one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saw_unknown = False
        if not path.exists():
            _write_new(path, {"current": 1, "keys": {"1": secrets.token_hex(32)}})
        self._load()

    def rotate(self) -> int:
        """Sign with a new key from now on; the old ones still verify. Returns the new key's id."""
        self._load()
        current = max(self._keys) + 1
        stored = json.loads(self.path.read_text())
        stored["keys"][str(current)] = secrets.token_hex(32)
        stored["current"] = current
        _replace(self.path, stored)
        self._load()
        return current

    def take_over(self, secrets_of: Mapping[int, str], current: int) -> None:
        """Know these keys, hexadecimal secrets by id, beside those there are, and sign with one of them."""
        stored = json.loads(self.path.read_text())
        keys = stored["keys"] | {str(key): secret for key, secret in secrets_of.items()}
        if keys != stored["keys"] or stored["current"] != current:
            _replace(self.path, {"current": current, "keys": keys})
            self._load()

    def secrets_of(self, keys: Collection[int]) -> dict[int, str]:
        """Hexadecimal secrets by id, of those of these keys that are here."""
        stored = json.loads(self.path.read_text())["keys"]
        return {key: stored[str(key)] for key in keys if str(key) in stored}

    def _load(self) -> None:
        self._stamp = _stamp(self.path)
        self._keys, current, key = self._read()
        self._signer = (current, key)

    def take_unknown(self) -> bool:
        """Whether a token was seen since the last call whose key is not here."""
        seen, self._saw_unknown = self._saw_unknown, False
        return seen

    def _learn(self) -> None:
        """Take in keys that another process has added; what is signed with stays."""
        stamp = _stamp(self.path)
        if stamp != self._stamp:
            self._keys = self._read()[0]
            self._stamp = stamp

    def _read(self) -> tuple[dict[int, HmacKey], int, HmacKey]:
        try:
            stored = json.loads(self.path.read_text())
            keys = {int(key): HmacKey(bytes.fromhex(secret)) for key, secret in stored["keys"].items()}
            return keys, int(stored["current"]), keys[int(stored["current"])]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(
                f"{self.path} is no key file", hint="restore it: without its keys no notice can be verified"
            ) from error

    def issue(self, bodies: Bodies) -> list[str]:
        """One signed token for each body; version, key and padding are written into them."""
        bodies["version"], (bodies["key"], signer), bodies["padding"] = VERSION, self._signer, 0
        return signer.sign(bodies.tobytes(), BODY.itemsize, MAC_BYTES)

    def verify(self, tokens: Sequence[str]) -> tuple[Bodies, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Read tokens: bodies (n,), malformed (n,) bool, forged (n,) bool; a row is good when it is neither."""
        raw, malformed = _decode(tokens)
        table = np.frombuffer(raw, np.uint8).reshape(-1, TOKEN_BYTES)
        bodies = table[:, : BODY.itemsize].copy().view(BODY).reshape(-1)
        malformed |= bodies["version"] != VERSION
        forged = np.zeros(len(tokens), np.bool_)
        keys = bodies["key"].tolist()
        named = set(bodies["key"][~malformed].tolist())
        if not self._keys.keys() >= named:
            self._learn()
            self._saw_unknown = self._saw_unknown or not self._keys.keys() >= named
        size = BODY.itemsize
        for row, bad in enumerate(malformed.tolist()):
            if bad:
                continue
            key = self._keys.get(keys[row])
            start = row * TOKEN_BYTES
            expected = key.mac(raw[start : start + size])[:MAC_BYTES] if key is not None else b""
            forged[row] = not hmac.compare_digest(expected, raw[start + size : start + TOKEN_BYTES])
        return bodies, malformed, forged


def bodies_of(claims: Sequence[Claim]) -> Bodies:
    """Bodies for `TokenKeys.issue`, (n,) of BODY."""
    return np.array([(VERSION, 0, *claim, 0) for claim in claims], BODY)


def exchange_hash(name: str) -> int:
    """The short hash of an exchange's name that its tokens carry."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def exchange_tag(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """What journal records say of an exchange: 1 to 32767, from the hash that tokens carry; 0 where that is 0."""
    return np.where(hashes == 0, 0, hashes % np.uint64(32767) + np.uint64(1)).astype(np.uint16)


def rates_of(tokens: Sequence[str]) -> Int64:
    """The rates that tokens have frozen, (n,) int64, unverified; `SAME_CURRENCY` where a token is none or has none."""
    table = np.frombuffer(_decode(tokens)[0], np.uint8).reshape(-1, TOKEN_BYTES)
    rates = table[:, : BODY.itemsize].copy().view(BODY).reshape(-1)["rate"]
    return np.where(rates > 0, rates, SAME_CURRENCY)


def _decode(tokens: Sequence[str]) -> tuple[bytes, npt.NDArray[np.bool_]]:
    try:
        text = "".join(tokens).encode("ascii").translate(_STANDARD)
        if all(len(token) == TOKEN_LENGTH for token in tokens):
            return binascii.a2b_base64(text, strict_mode=True), np.zeros(len(tokens), np.bool_)
    except (ValueError, TypeError):
        pass
    pieces = [_decode_one(token) for token in tokens]
    malformed = np.array([piece is None for piece in pieces], np.bool_)
    return b"".join(piece or bytes(TOKEN_BYTES) for piece in pieces), malformed


def _decode_one(token: str) -> bytes | None:
    try:
        if len(token) != TOKEN_LENGTH:
            return None
        return binascii.a2b_base64(token.encode("ascii").translate(_STANDARD), strict_mode=True)
    except ValueError:
        return None


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _write_new(path: Path, stored: object) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    durable.write_private(scratch, json.dumps(stored).encode())
    try:
        os.link(scratch, path)  # of two processes that start together, the first one's keys stay
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    durable.sync(path.parent)


def _replace(path: Path, stored: object) -> None:
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    durable.write_private(scratch, json.dumps(stored).encode())
    scratch.replace(path)
    durable.sync(path.parent)
