"""Which line items a request may show: targeting as bits, then flight and pause."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from headrace.ids import UInt64
from headrace.types import Bool, Int32, Int64

N_DIMENSIONS = 3


class Targets(NamedTuple):
    """What m line items ask for; bit l % 64 of word l // 64 of a row stands for line item l, w = ceil(m / 64).

    any_bits : (3, w) uint64. Line items without a wish in the dimension: country, category, segment.
    term_bits : (t, w) uint64. Line items that name the term.
    hour_bits : (h, w) uint64. Line items that run in a quarter of an hour of the batch.
    currency_bits : (c, w) uint64. Line items whose budget is in the currency; the last row is all zero.
    flight_start_ms, flight_end_ms : (m,) int64, end exclusive.   paused : (m,) bool.
    """

    any_bits: UInt64
    term_bits: UInt64
    hour_bits: UInt64
    currency_bits: UInt64
    flight_start_ms: Int64
    flight_end_ms: Int64
    paused: Bool


class Asked(NamedTuple):
    """What n requests carry.

    term_indptr : (3 n + 1,) int32. Terms of request r in dimension d: ``terms[indptr[3 r + d]:indptr[3 r + d + 1]]``.
    terms : int32 rows of term_bits.   hour_rows, currency_rows : (n,) int32 rows.   time_ms : (n,) int64.
    """

    term_indptr: Int32
    terms: Int32
    hour_rows: Int32
    currency_rows: Int32
    time_ms: Int64


@njit(nogil=True, cache=True)
def _targeted_word(targets: Targets, asked: Asked, request: int, word: int) -> int:
    bits = targets.hour_bits[asked.hour_rows[request], word]
    for dimension in range(N_DIMENSIONS):
        if bits == 0:
            break
        wanted = targets.any_bits[dimension, word]
        row = N_DIMENSIONS * request + dimension
        for position in range(asked.term_indptr[row], asked.term_indptr[row + 1]):
            wanted |= targets.term_bits[asked.terms[position], word]
        bits &= wanted
    return int(bits)


@njit(nogil=True, cache=True)
def match_requests(targets: Targets, asked: Asked, counts: Int32, indptr: Int64, lines: Int32) -> int:
    """List the line items that each request may show, in ascending order.

    counts : (n, 2) int32, written: line items whose targeting fits; those among them in the request's currency.
    indptr : (n + 1,) int64, written: request r's line items are ``lines[indptr[r]:indptr[r + 1]]``; they also are in
        their flight and not paused.
    lines : (capacity,) int32, written as far as it reaches.

    Returns how many line items there are in all; when that is above the capacity, call again with more room.
    """
    total = 0
    indptr[0] = 0
    for request in range(asked.time_ms.shape[0]):
        counts[request, 0] = 0
        counts[request, 1] = 0
        moment = asked.time_ms[request]
        for word in range(targets.any_bits.shape[1]):
            fits = _targeted_word(targets, asked, request, word)
            if fits == 0:
                continue
            payable = fits & targets.currency_bits[asked.currency_rows[request], word]
            for bit in range(64):
                if (fits >> np.uint64(bit)) & np.uint64(1) == 0:
                    continue
                counts[request, 0] += 1
                if (payable >> np.uint64(bit)) & np.uint64(1) == 0:
                    continue
                counts[request, 1] += 1
                line = 64 * word + bit
                in_flight = targets.flight_start_ms[line] <= moment < targets.flight_end_ms[line]
                if in_flight and not targets.paused[line]:
                    if total < lines.shape[0]:
                        lines[total] = line
                    total += 1
        indptr[request + 1] = total
    return total
