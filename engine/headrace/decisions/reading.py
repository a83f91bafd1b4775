"""Reading decision records back: one segment at a time, or a folder as one recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from headrace.decisions.batch import RecordedModel
from headrace.decisions.catalog import RecordedBoard, board_of, curves_of, model_of
from headrace.decisions.columns import Block
from headrace.decisions.layout import (
    ACTION,
    AUCTION,
    CANDIDATE,
    SUFFIX,
    TOLD,
    WITHDRAWN,
    Kind,
    Rows,
    frames,
    torn_bytes,
)
from headrace.decisions.segments import segment_paths
from headrace.errors import DataError
from headrace.types import Bool, Float64, Int32, Int64
from headrace.v1 import bidder_pb2 as pb

KEEP_MS = 600_000
"""A recording holds what was learned of prices at most so often."""


Told = dict[Kind, list[Rows]]
"""What was told, by kind."""


@dataclass
class Shelf:
    """What auctions of a segment refer to, as far as it was read; word 0 is the empty one."""

    boards: list[RecordedBoard] = field(default_factory=list)
    models: list[RecordedModel] = field(default_factory=list)
    words: list[str] = field(default_factory=lambda: [""])
    numbers: dict[str, int] = field(default_factory=lambda: {"": 0})

    def word(self, word: str) -> int:
        """The number of a word, put behind the others where it is new."""
        number = self.numbers.setdefault(word, len(self.words))
        if number == len(self.words):
            self.words.append(word)
        return number

    def put(self, kind: int, payload: bytes) -> None:
        """Take in a frame, if it is one of those."""
        if kind == Kind.BOARD:
            self.boards.append(board_of(payload))
        elif kind == Kind.MODEL:
            self.models.append(model_of(payload))
        elif kind == Kind.CURVES:
            _, new = curves_of(payload)
            last = self.models[-1]
            self.models.append(replace(last, curves={**last.curves, **new}))
        elif kind == Kind.WORD:
            self.word(payload.decode())


@dataclass(frozen=True)
class Outcomes:
    """What is known of what became of n auctions.

    won, lost, withdrawn : (n,) bool; neither of them: nobody said anything.
    price_cpm, minimum_cpm : (n,) int64, what is paid and the least bid that would have won; -1 not known.
    """

    won: Bool
    lost: Bool
    withdrawn: Bool
    price_cpm: Int64
    minimum_cpm: Int64


@dataclass(frozen=True)
class Recording:
    """All auctions of a folder in order of time, with what they refer to.

    auctions : (n,) AUCTION, ``board``, ``model``, ``exchange`` and ``placement`` numbered throughout,
        ``candidate_start`` and ``term_start`` into the next two.
    candidates : CANDIDATE.   terms : int32.   outcomes : of the auctions.
    torn : names of the segments whose end was cut off or damaged.
    actions : ACTION, as they were heard, of these auctions.   action_row : (a,) int64, the auction of each.
    """

    auctions: Rows
    candidates: Rows
    terms: Int32
    outcomes: Outcomes
    boards: list[RecordedBoard]
    models: list[RecordedModel]
    words: list[str]
    torn: list[str]
    actions: Rows = field(default_factory=lambda: np.zeros(0, ACTION))
    action_row: Int64 = field(default_factory=lambda: np.zeros(0, np.int64))


def find_segments(folder: Path) -> list[Path]:
    """The segments of a folder, or of the folder "decisions" in it. Raises DataError where there are none."""
    inside = folder / "decisions"
    found = segment_paths(inside if inside.is_dir() else folder)
    if not found:
        hint = "decisions.record must be on, and something must have been bid on"
        raise DataError(f"{folder} holds no decision records (*{SUFFIX})", hint=hint)
    return found


def live_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """The frames of a segment; those of its new name where a server has renamed it, and none where it is retired."""
    try:
        yield from frames(path)
    except FileNotFoundError:
        for renamed in path.parent.glob(f"{path.stem.rpartition('-')[0]}-*{SUFFIX}"):
            yield from frames(renamed)


def read_recording(folder: Path, since_ms: int = 0) -> Recording:
    """What was decided from a time on, ms since 1970 UTC, by the requests' time; all that is kept by default.

    Raises DataError for another version, for no segments and no auctions.
    """
    whole = Shelf()
    blocks: list[Block] = []
    told: Told = {kind: [np.zeros(0, columns)] for kind, columns in TOLD.items()}
    torn: list[str] = []
    for path in find_segments(folder):
        blocks += _read_segment(path, whole, told, since_ms)
        if path.exists() and torn_bytes(path) > 0:
            torn.append(path.name)
    if not blocks:
        hint = f"damaged: {', '.join(torn)}" if torn else ""
        raise DataError(f"{folder} holds no auction" + (" since then" if since_ms else ""), hint=hint)
    auctions, candidates, terms = _joined(blocks)
    order = np.argsort(auctions["time_ms"], kind="stable")
    auctions = auctions[order]
    outcomes, actions = (np.concatenate(told[kind]) for kind in TOLD)
    rows, ours = _whose(auctions, actions)
    return Recording(
        auctions,
        candidates,
        terms,
        join(auctions, outcomes),
        whole.boards,
        whole.models,
        whole.words,
        torn,
        actions[ours],
        rows,
    )


def join(auctions: Rows, told: Rows) -> Outcomes:
    """The outcomes of auctions among those told, in the order they came; a later price counts over an earlier one."""
    n = len(auctions)
    won, lost, withdrawn = np.zeros((3, n), np.bool_)
    found = Outcomes(won, lost, withdrawn, np.full(n, -1, np.int64), np.full(n, -1, np.int64))
    rows, ours = _whose(auctions, told)
    told = told[ours]
    kind = told["kind"]
    found.won[rows[np.isin(kind, (pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_BILLING))]] = True
    found.lost[rows[kind == pb.NOTICE_TYPE_LOSS]] = True
    found.withdrawn[rows[kind == WITHDRAWN]] = True
    for column, amounts in ((found.price_cpm, told["price_cpm"]), (found.minimum_cpm, told["minimum_cpm"])):
        column[rows[amounts >= 0]] = amounts[amounts >= 0]
    return found


def _whose(auctions: Rows, told: Rows) -> tuple[Int64, Bool]:
    """Which auction's bid each row tells of, and which rows, (t,) bool, tell of any of these."""
    bids = np.flatnonzero(auctions["reason"] == 0)
    if not len(bids) or not len(told):
        return np.zeros(0, np.int64), np.zeros(len(told), np.bool_)
    keys, asked = _halves(auctions["token"][bids]), _halves(told["token"])
    order = np.argsort(keys[:, 0], kind="stable")
    at = np.minimum(np.searchsorted(keys[order, 0], asked[:, 0]), len(order) - 1)
    ours: Bool = (keys[order[at]] == asked).all(axis=1)
    return bids[order[at[ours]]], ours


def _halves(tokens: Rows) -> Int64:
    """Digests as two numbers each, (n, 2)."""
    return np.ascontiguousarray(tokens).view("<i8").reshape(-1, 2)


def _read_segment(path: Path, whole: Shelf, told: Told, since_ms: int) -> list[Block]:
    """Blocks of one segment; what they refer to is added to the whole and numbered as there, the rest to ``told``."""
    base = len(whole.boards)
    blocks: list[Block] = []
    words, models = [0], _Models(whole)
    for kind, payload in live_frames(path):
        if kind == Kind.AUCTIONS:
            block = _since(Block.of_bytes(payload), since_ms)
            if not len(block.auctions):
                continue
            auctions = block.auctions.copy()
            auctions["board"] += base
            auctions["model"] = models.number
            places = np.array(words, np.uint32)
            auctions["exchange"], auctions["placement"] = places[auctions["exchange"]], places[auctions["placement"]]
            blocks.append(Block(auctions, block.candidates, block.terms))
        elif kind in TOLD:
            told[Kind(kind)].append(np.frombuffer(payload, TOLD[Kind(kind)]))
        elif kind == Kind.WORD:
            words.append(whole.word(payload.decode()))
        elif kind in (Kind.MODEL, Kind.CURVES):
            models.put(kind, payload)
        else:
            whole.put(kind, payload)
    return blocks


def _since(block: Block, since_ms: int) -> Block:
    """The auctions of a block from a time on, and what they point to."""
    late = block.auctions["time_ms"] >= since_ms
    if late.all():
        return block
    auctions = block.auctions[late].copy()
    _, at = each_candidate(auctions)
    counts = auctions["n_candidates"].astype(np.int64)
    auctions["candidate_start"] = np.cumsum(counts) - counts
    return Block(auctions, block.candidates[at], block.terms)


class _Models:
    """Models of a segment, put on a shelf with what was learned of prices in between, but not too often.

    Attribute ``number`` is that of the model in force.
    """

    def __init__(self, whole: Shelf) -> None:
        self._whole = whole
        self._since_ms = 0
        self._new: dict[int, Float64] = {}
        self.number = 0

    def put(self, kind: int, payload: bytes) -> None:
        """Take in a model or curves of it."""
        models = self._whole.models
        if kind == Kind.MODEL:
            models.append(model_of(payload))
            self._since_ms, self._new = 0, {}
        else:
            time_ms, curves = curves_of(payload)
            self._new.update(curves)
            if time_ms >= self._since_ms + KEEP_MS:
                models.append(replace(models[-1], curves={**models[-1].curves, **self._new}))
                self._since_ms, self._new = time_ms, {}
        self.number = len(models) - 1


def _joined(blocks: Sequence[Block]) -> tuple[Rows, Rows, Int32]:
    candidates_before = terms_before = 0
    for block in blocks:
        block.auctions["candidate_start"] += candidates_before
        block.auctions["term_start"] += terms_before
        candidates_before += len(block.candidates)
        terms_before += len(block.terms)
    return (
        np.concatenate([np.zeros(0, AUCTION), *(block.auctions for block in blocks)]),
        np.concatenate([np.zeros(0, CANDIDATE), *(block.candidates for block in blocks)]),
        np.concatenate([block.terms for block in blocks]),
    )


def each_candidate(auctions: Rows) -> tuple[Int64, Int64]:
    """For all candidates of some auctions in a row: whose each is, and its place among the recording's."""
    counts = auctions["n_candidates"].astype(np.int64)
    owner = np.repeat(np.arange(len(auctions)), counts)
    before = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - before[owner] + auctions["candidate_start"].astype(np.int64)[owner]
