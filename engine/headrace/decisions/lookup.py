"""Finding one decision among the segments, by the token of its bid or by its request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.decisions.batch import RecordedModel
from headrace.decisions.catalog import RecordedBoard
from headrace.decisions.columns import Block, digest
from headrace.decisions.layout import TOLD, Kind, Rows
from headrace.decisions.reading import Outcomes, Shelf, join, live_frames
from headrace.decisions.segments import segment_paths
from headrace.types import Int32

_NOBODY = bytes(16)


@dataclass(frozen=True)
class Decision:
    """One recorded impression, with all that it refers to.

    auction : (1,) AUCTION.   candidates : CANDIDATE.   terms : int32, the request's words on the board.
    outcome : of the one auction.   actions : ACTION, as they were heard.
    """

    auction: Rows
    candidates: Rows
    terms: Int32
    board: RecordedBoard
    model: RecordedModel
    exchange: str
    placement: str
    outcome: Outcomes
    actions: Rows


def find_decision(folder: Path, token: str = "", seed: int = 0, impression: int = 0) -> Decision | None:
    """The latest decision with this token, or with this seed and place in the request; None where there is none.

    seed : `headrace._native.hash_texts` of the bid request id.
    Segments are read from the newest on; those that are replaced meanwhile are read under their new names.
    """
    paths = segment_paths(folder)
    for at in range(len(paths) - 1, -1, -1):
        found = _find_in(paths[at], token, seed, impression)
        if found is not None:
            auction, candidates, terms, shelf = found
            told = _told(paths[at:], bytes(auction["token"][0]))
            outcome = join(auction, told[Kind.OUTCOMES])
            (row,) = auction
            names = shelf.words[row["exchange"]], shelf.words[row["placement"]]
            references = shelf.boards[row["board"]], shelf.models[row["model"]]
            return Decision(auction, candidates, terms, *references, *names, outcome, told[Kind.ACTIONS])
    return None


def _find_in(path: Path, token: str, seed: int, impression: int) -> tuple[Rows, Rows, Int32, Shelf] | None:
    needle = digest(token) if token else seed.to_bytes(8, "little")
    shelf, found = Shelf(), None
    for kind, payload in live_frames(path):
        if kind != Kind.AUCTIONS:
            shelf.put(kind, payload)
        elif needle in payload:
            block = Block.of_bytes(payload)
            row = _row_of(block.auctions, needle if token else None, seed, impression)
            if row >= 0:
                found = block, row
    if found is None:
        return None
    block, row = found
    auction = block.auctions[row : row + 1]
    first, start = int(auction["candidate_start"][0]), int(auction["term_start"][0])
    candidates = block.candidates[first : first + int(auction["n_candidates"][0])]
    return auction, candidates, block.terms[start : start + int(auction["n_terms"][0].sum())], shelf


def _row_of(auctions: Rows, token: bytes | None, seed: int, impression: int) -> int:
    """The last row that is asked for, -1 for none."""
    if token is not None:
        fits = [row for row, each in enumerate(auctions["token"]) if bytes(each) == token]
    else:
        same = (auctions["seed"] == np.uint64(seed)) & (auctions["impression"] == impression)
        fits = np.flatnonzero(same).tolist()
    return fits[-1] if fits else -1


def _told(paths: list[Path], token: bytes) -> dict[Kind, Rows]:
    """What was told of a bid, by kind."""
    found: dict[Kind, list[Rows]] = {kind: [np.zeros(0, columns)] for kind, columns in TOLD.items()}
    frames = (each for path in paths for each in live_frames(path)) if token != _NOBODY else ()
    for kind, payload in frames:
        if kind in TOLD and token in payload:
            rows = np.frombuffer(payload, TOLD[Kind(kind)])
            found[Kind(kind)].append(rows[rows["token"] == np.void(token)])
    return {kind: np.concatenate(rows) for kind, rows in found.items()}
