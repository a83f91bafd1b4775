"""What a segment of decision records holds: frames of columns, each with its checksum.

A segment begins with `MAGIC` and the format's version; then come frames: kind, size and CRC-32 of the payload, and the
payload. What is cut short or damaged ends the segment there. Boards, models, and the words for exchanges and placements
are numbered within their segment in the order of their frames, so that each file can be read alone. Numbers are
little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headrace.errors import DataError

MAGIC = b"HRECORDS"
FORMAT_VERSION = 1
SUFFIX = ".records"
MAX_FRAME_BYTES = 1 << 30

_START = struct.Struct("<8sI")
_FRAME = struct.Struct("<III")
START_BYTES = _START.size

Rows = npt.NDArray[np.void]
"""(n,) of one of the types below."""


class Kind(IntEnum):
    """What a frame holds."""

    BOARD = 1
    MODEL = 2
    WORD = 3
    AUCTIONS = 4
    OUTCOMES = 5
    CURVES = 6
    ACTIONS = 7


AUCTION = np.dtype(
    [
        ("request", "<u8"),  # impressions with the same number belong to one bid request
        ("time_ms", "<i8"),
        ("subject", "<i8"),  # random key of the event log; 0: a stranger, no consent, or erased
        ("sequence", "<i8"),  # last event of the log that the person's state had seen
        ("floor_cpm", "<i8"),
        ("value_cpm", "<i8"),  # of the chosen candidate, 0 without a bid
        ("bid_cpm", "<i8"),
        ("probability", "<f8"),
        ("token", "V16"),  # digest of the bid's token, zeros without a bid
        ("seed", "<u8"),  # hash of the bid_request_id: what is random about the request; 0 once erased
        ("term_start", "<u4"),  # of the request's words in the frame's terms: country, categories, segments
        ("n_terms", "<u2", (3,)),
        ("candidate_start", "<u4"),
        ("n_candidates", "<u4"),
        ("n_fit", "<i4"),  # line items whose targeting fits
        ("n_payable", "<i4"),  # those of them in the request's currency
        ("n_matched", "<i4"),  # those of them in flight and not paused
        ("n_offers", "<i4"),  # those of them with an item to show; the highest are the candidates
        ("board", "<u4"),
        ("model", "<u4"),
        ("solution", "<u4"),  # counts the pacer's solutions within the process
        ("exchange", "<u4"),
        ("placement", "<u4"),
        ("market_row", "<i4"),
        ("currency", "<i4"),  # row of the board's currencies, their number for one that no campaign has
        ("line", "<i4"),  # of the chosen candidate, -1 without a bid
        ("weight", "<f4"),  # impressions that this one stands for
        ("win_rate", "<f4"),  # as the market had it at the bid, 0 without one
        ("impression", "<u2"),  # place within the request
        ("first_price", "u1"),
        ("explored", "u1"),  # the bid was drawn at random
        ("reason", "u1"),  # NoBidReason, 0 for a bid
    ]
)
"""One impression that was decided."""

CANDIDATE = np.dtype(
    [
        ("line", "<i4"),
        ("position", "<i4"),  # place of the item within the line item
        ("probability", "<f8"),
        ("value_cpm", "<i8"),
        ("multiplier", "<f8"),
        ("premium_cpm", "<i8"),  # worth beyond the value, for a promise of impressions
        ("affordable_cpm", "<i8"),  # the highest bid that the money left allowed
        ("bid_cpm", "<i8"),  # as priced, 0 for one that was not
        ("rank", "<i4"),  # place in the order of tries, -1 for one that was not priced
    ]
)
"""One line item that could have been shown."""

OUTCOME = np.dtype(
    [
        ("token", "V16"),
        ("time_ms", "<i8"),
        ("price_cpm", "<i8"),  # what is paid, -1: not known
        ("minimum_cpm", "<i8"),  # the least bid that would have won, -1: not known
        ("kind", "<i4"),  # NoticeType, or WITHDRAWN
    ]
)
"""What became of a bid."""

ACTION = np.dtype(
    [
        ("token", "V16"),
        ("time_ms", "<i8"),  # when it happened, as the caller says
        ("heard_ms", "<i8"),
        ("worth_micros", "<i8"),  # of each, 0: the line item's own
        ("count", "<i4"),  # below zero where actions were taken back
    ]
)
"""A purchase reported of a bid's impression; nothing that its caller names it by."""

TOLD = {Kind.OUTCOMES: OUTCOME, Kind.ACTIONS: ACTION}
"""Columns of the frames that tell of bids, by their tokens."""

WITHDRAWN = 100
"""Kind of an outcome: the answer never left the process, so nobody heard of the bid."""

COUNTS = struct.Struct("<III")
"""Auctions, candidates and terms of a frame of auctions."""


def start_of_segment() -> bytes:
    """The first bytes of a segment."""
    return _START.pack(MAGIC, FORMAT_VERSION)


def frame(kind: int, payload: bytes) -> bytes:
    """A payload as it stands in a segment."""
    return _FRAME.pack(kind, len(payload), _checksum(kind, payload)) + payload


def check_start(raw: bytes, path: Path) -> None:
    """Raise DataError unless these are the first bytes of a segment that can be read."""
    if len(raw) < START_BYTES or raw[: len(MAGIC)] != MAGIC:
        raise DataError(
            f"{path} holds no decision records", hint="name a folder of decisions, with no other files in it"
        )
    version = _START.unpack(raw[:START_BYTES])[1]
    if version != FORMAT_VERSION:
        hint = "read it with the release that wrote it, or a later one"
        raise DataError(f"{path}: format version", version, str(FORMAT_VERSION), hint)


def frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Kind and payload of each whole frame of a segment, up to the first that is cut short or damaged.

    A file with fewer bytes than a start has no frames: its process died at once. Raises DataError for another file or
    version.
    """
    with path.open("rb") as stream:
        start = stream.read(START_BYTES)
        if len(start) < START_BYTES and _START.pack(MAGIC, FORMAT_VERSION).startswith(start):
            return
        check_start(start, path)
        while len(head := stream.read(_FRAME.size)) == _FRAME.size:
            kind, size, checksum = _FRAME.unpack(head)
            if size > MAX_FRAME_BYTES:
                return
            payload = stream.read(size)
            if len(payload) != size or _checksum(kind, payload) != checksum:
                return
            yield kind, payload


def torn_bytes(path: Path) -> int:
    """Bytes at the end of a segment that belong to no whole frame."""
    whole = sum(_FRAME.size + len(payload) for _, payload in frames(path))
    size = path.stat().st_size
    return size - START_BYTES - whole if size >= START_BYTES else size


def _checksum(kind: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(kind.to_bytes(4, "little")))
