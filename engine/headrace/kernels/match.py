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
def match_requests(targets: Targets, asked: Asked, counts: Int32, indptr: Int64, lines: Int32) -> int:
    """List the line items that each request may show, in ascending order.

    counts : (n, 2) int32, written: line items whose targeting fits; those among them in the request's currency.
    indptr : (n + 1,) int64, written: request r's line items are ``lines[indptr[r]:indptr[r + 1]]``; they also are in
        their flight and not paused.
    lines : (capacity,) int32, written as far as it reaches.

    Returns how many line items there are in all; when that is above the capacity, call again with more room.
    """
    # read outside the loops: inside them, every field of a tuple is counted as a reference
    any_bits, term_bits, hour_bits, currency_bits = (
        targets.any_bits,
        targets.term_bits,
        targets.hour_bits,
        targets.currency_bits,
    )
    starts, ends, paused = targets.flight_start_ms, targets.flight_end_ms, targets.paused
    term_indptr, terms, time_ms = asked.term_indptr, asked.terms, asked.time_ms
    hour_rows, currency_rows = asked.hour_rows, asked.currency_rows
    total = 0
    indptr[0] = 0
    for request in range(time_ms.shape[0]):
        n_fit, n_payable = 0, 0
        moment = time_ms[request]
        hours, currency = hour_bits[hour_rows[request]], currency_bits[currency_rows[request]]
        for word in range(any_bits.shape[1]):
            # here and not in a function of its own: arrays that are handed on are counted as references, too
            fits = hours[word]
            for dimension in range(N_DIMENSIONS):
                if fits == 0:
                    break
                wanted = any_bits[dimension, word]
                row = N_DIMENSIONS * request + dimension
                for position in range(term_indptr[row], term_indptr[row + 1]):
                    wanted |= term_bits[terms[position], word]
                fits &= wanted
            payable = fits & currency[word]
            line = 64 * word
            while fits != 0:
                if fits & np.uint64(1):
                    n_fit += 1
                if payable & np.uint64(1):
                    n_payable += 1
                    if starts[line] <= moment < ends[line] and not paused[line]:
                        if total < lines.shape[0]:
                            lines[total] = line
                        total += 1
                fits >>= np.uint64(1)
                payable >>= np.uint64(1)
                line += 1
        counts[request, 0] = n_fit
        counts[request, 1] = n_payable
        indptr[request + 1] = total
    return total
