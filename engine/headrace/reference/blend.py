"""Plain twin of native/src/blend.cpp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.types import Float32, Float64

DAY_MS = 86_400_000
MOST_SOURCES = 500


@dataclass(frozen=True)
class PlainBlend:
    """Dense links (n_items, n_items), ``decay`` (n_lags,), and the manifest's terms."""

    items: Float32
    session: Float32
    decay: Float32
    terms: Any


def blend_additions(blend: PlainBlend, merged: Any, person: int, now_ms: int, *, only_new: bool = False) -> Float64:
    """What is added to each item's score of one person, (n_items,) float64; ``only_new`` leaves out what was bought."""
    part = slice(merged.indptr[person], merged.indptr[person + 1])
    rows, weights, last_ms = merged.rows[part], merged.weights[part].astype(np.float64), merged.last_ms[part]
    last_event_ms, n_items, terms = int(merged.last_event_ms[person]), len(blend.items), blend.terms
    total = np.zeros(n_items)
    latest = np.lexsort((np.arange(len(rows)), -last_ms))[:MOST_SOURCES]
    used = np.sort(latest[(rows[latest] < n_items) & (weights[latest] > 0)])
    values = weights[used] ** terms.power
    if terms.half_life_days:
        values *= 0.5 ** (np.maximum(0, last_event_ms - last_ms[used]) / DAY_MS / terms.half_life_days)
    if values.sum() > 0:
        weight = terms.new_item_weight if only_new else terms.item_weight
        total += weight * (values @ blend.items[rows[used]]) / values.sum() ** terms.length_power
    length_ms = terms.session_minutes * 60_000
    if now_ms - last_event_ms > length_ms:
        return total
    present = np.flatnonzero((rows < n_items) & (last_event_ms - last_ms <= length_ms))
    order = present[np.lexsort((-present, -last_ms[present]))][: len(blend.decay)]
    for decay, row in zip(blend.decay, rows[order], strict=False):
        total += terms.session_weight * float(decay) * blend.session[row]
    return total
