"""Plain NumPy twins of `headrace.kernels.match`."""

from __future__ import annotations

from typing import Any

import numpy as np

from headrace.types import Bool


def _lines(words: Any, n_lines: int) -> Bool:
    """(…, w) uint64 words as (…, m) booleans."""
    bits = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    return bits[..., :n_lines].astype(bool)


def match_requests(targets: Any, asked: Any) -> list[tuple[int, int, list[int]]]:
    """For each request: how many line items fit, how many of those in its currency, and which of those may run."""
    n_lines = len(targets.paused)
    answers = []
    for request in range(len(asked.time_ms)):
        fits = _lines(targets.hour_bits[asked.hour_rows[request]], n_lines)
        for dimension in range(3):
            row = 3 * request + dimension
            terms = asked.terms[asked.term_indptr[row] : asked.term_indptr[row + 1]]
            named = _lines(targets.term_bits[terms], n_lines).any(axis=0)
            fits &= named | _lines(targets.any_bits[dimension], n_lines)
        payable = fits & _lines(targets.currency_bits[asked.currency_rows[request]], n_lines)
        moment = asked.time_ms[request]
        running = (targets.flight_start_ms <= moment) & (moment < targets.flight_end_ms) & ~targets.paused
        answers.append((int(fits.sum()), int(payable.sum()), np.flatnonzero(payable & running).tolist()))
    return answers
