"""Forgetting people in decision records: their keys and the hashes of their requests' ids leave every segment."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from headrace import durable
from headrace.decisions.columns import Block
from headrace.decisions.layout import Kind, Rows, frame, frames, start_of_segment
from headrace.decisions.segments import clean_until, held, mark_clean, segment_paths
from headrace.types import Int64

Erased = Callable[[int], tuple[int, Sequence[int]]]
"""Last sequence of the event log, and the keys of the subjects that were erased after a given one."""


class Erasures:
    """Which subjects the event log has erased since the oldest segment was last known to be clean of such.

    read : see `Erased`.   folder : of the segments.

    Attributes: ``keys`` (n,) int64 of those subjects, ``sequence`` up to which the log was looked at.
    """

    def __init__(self, read: Erased, folder: Path) -> None:
        self._read = read
        self._folder = folder
        self.keys: Int64 = np.zeros(0, np.int64)
        known = [clean_until(path) for path in segment_paths(folder)]
        self.sequence = min(known) if known else read((1 << 63) - 1)[0]
        self._latest = 0

    def news(self) -> bool:
        """Look at the log; whether it tells of anybody new to be forgotten."""
        self.sequence, keys = self._read(self.sequence)
        if not keys:
            return False
        self.keys = np.concatenate([self.keys, np.array(keys, np.int64)])
        self._latest = self.sequence
        return True

    def apply(self) -> None:
        """Rewrite segments that may know them; one that another process fills is that process's own matter."""
        for path in segment_paths(self._folder):
            if clean_until(path) < self._latest:
                with held(path) as free:
                    if free:
                        forget(path, self.keys)
                        mark_clean(path, self._latest)


def forget(path: Path, keys: Int64) -> bool:
    """Rewrite one segment without these subjects; False where it knows none of them and stays as it is.

    What is left of their decisions is amounts and campaigns. The file is replaced in whole or not at all.
    """
    parts = [start_of_segment()]
    changed = False
    for kind, payload in frames(path):
        if kind == Kind.AUCTIONS:
            block = Block.of_bytes(payload)
            if np.isin(block.auctions["subject"], keys).any():
                parts.append(frame(Kind.AUCTIONS, _without(block, keys).to_bytes()))
                changed = True
                continue
        parts.append(frame(kind, payload))
    if changed:
        _replace(path, b"".join(parts))
    return changed


def _without(block: Block, keys: Int64) -> Block:
    auctions = block.auctions.copy()
    unlink(auctions, keys)
    return Block(auctions, block.candidates, block.terms)


def unlink(auctions: Rows, keys: Int64) -> None:
    """Take from auctions, in place, what links them to these subjects."""
    known = np.isin(auctions["subject"], keys)
    auctions["subject"][known] = 0
    auctions["seed"][known] = 0


def _replace(path: Path, raw: bytes) -> None:
    status = path.stat()
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    durable.write_private(part, raw)
    os.utime(part, (status.st_atime, status.st_mtime))  # its age is that of its records
    part.replace(path)
