"""What is served inside a session, chosen by what people took next in later sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp

from headrace.events.columns import TrainingColumns
from headrace.types import Bool, Float32, Int32, Int64
from headrace_training.links import Moves, session_links, sessions
from headrace_training.models.base import dense_product
from headrace_training.progress import say
from headrace_training.ranking import BLOCK_CELLS, mask, top_k
from headrace_training.slate import FactorModel

K = 20
MINUTES = 30.0
"""A session ends when nothing happens for so long."""
DECAY: Float32 = (1.0 / np.arange(1, 6)).astype(np.float32)
"""What the latest items of a session weigh, the last one first."""
MAX_STEPS = 1000
"""Sessions on which the weight is chosen, a moment in each."""
MIN_STEPS = 50
"""With fewer nothing is chosen."""
SHARES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights tried, with the transitions' scores brought to the spread of the others'."""


@dataclass(frozen=True)
class SessionChoice:
    """Weight of the transitions, 0 for none; ``hits`` are shares of next items among the best 20, with and without."""

    weight: float = 0.0
    hits: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """Moments inside sessions: ``begins`` to ``ends`` of the moves, where the item stands that came next.

    firsts : where the person's moves begin. All (n,) int64.
    """

    firsts: Int64
    begins: Int64
    ends: Int64


def transitions(events: TrainingColumns, used: Bool, n_links: int) -> sp.csr_matrix:
    """Links from items to what comes next in a session, learned from the rows that are ``used``."""
    moves = sessions(events, used, int(MINUTES * 60_000))
    return session_links(events.item_idx[moves.order], moves.begins, len(events.item_ids), n_links)


def choose_session(
    events: TrainingColumns,
    used: Bool,
    since_ms: int,
    until_ms: int,
    served: Callable[[TrainingColumns], FactorModel],
    n_links: int,
) -> SessionChoice:
    """The weight by which most next items are found in sessions that begin in [since, until); 0 if none gains.

    used : (n_events,) rows that serving takes in. served : the model of people with the given events, learned before
    ``since_ms``, as are the transitions.
    """
    moves = sessions(events, used, int(MINUTES * 60_000))
    items, n_items = events.item_idx[moves.order], len(events.item_ids)
    steps = draw_steps(events, moves, since_ms, until_ms)
    links = transitions(events, used & (events.times_ms < since_ms), n_links)
    if len(steps.ends) < MIN_STEPS or not links.nnz:
        return SessionChoice()
    model, sources, seen = served(_known(events, moves, steps)), *_sources(items, steps, n_items)
    spread = _spread(model, sources, links)
    weights = (0.0, *(share * spread for share in SHARES))
    found = {weight: _hits(model, sources * np.float32(weight), links, seen, items[steps.ends]) for weight in weights}
    best = max(weights, key=lambda weight: found[weight])
    say(f"  sessions: {found[0.0]:.4f} of next items are in a slate, {found[best]:.4f} with transitions x {best:.3g}")
    return SessionChoice(best, {"next_item_hits@20": found[best], "factors_next_item_hits@20": found[0.0]})


def draw_steps(events: TrainingColumns, moves: Moves, since_ms: int, until_ms: int) -> Steps:
    """At most one moment a session, from its middle on, that leads to an item which the session has not had."""
    times, items = events.times_ms[moves.order], events.item_idx[moves.order]
    users = events.user_idx[moves.order]
    begins = np.flatnonzero(moves.begins)
    ends = np.append(begins[1:], len(items))
    used = (times[begins] >= since_ms) & (times[begins] < until_ms) & (ends - begins > 1)
    begins, ends = begins[used], ends[used]
    some = slice(None, None, max(1, len(begins) // MAX_STEPS))
    found = [(begin, _turn(items, begin, end)) for begin, end in zip(begins[some], ends[some], strict=True)]
    pairs = np.array([pair for pair in found if pair[1] >= 0], dtype=np.int64).reshape(-1, 2)
    return Steps(np.searchsorted(users, users[pairs[:, 0]]), pairs[:, 0], pairs[:, 1])


def _turn(items: Int32, begin: int, end: int) -> int:
    """The first place from the middle on whose item is new in the session, -1 for none."""
    for place in range((begin + end + 1) // 2, end):
        if items[place] not in items[begin:place]:
            return place
    return -1


def _known(events: TrainingColumns, moves: Moves, steps: Steps) -> TrainingColumns:
    """The events known at each step, each step a person of its own."""
    lengths = steps.ends - steps.firsts
    places = np.repeat(steps.firsts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    rows = moves.order[places]
    columns = ("item_idx", "times_ms", "types", "quantities", "prices_micros")
    return replace(
        events,
        user_idx=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        user_names=[str(step) for step in range(len(lengths))],
        **{name: getattr(events, name)[rows] for name in columns},
    )


def _sources(items: Int32, steps: Steps, n_items: int) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """What multiplies the links of each step's latest distinct items, and all items of its session; float32 CSR."""
    shape = (len(steps.ends), n_items)
    distinct = [list(dict.fromkeys(items[a:z][::-1].tolist())) for a, z in zip(steps.begins, steps.ends, strict=True)]
    latest = [some[: len(DECAY)] for some in distinct]
    values = np.concatenate([DECAY[: len(some)] for some in latest])
    return _rows(latest, values, shape), _rows(distinct, np.ones(sum(map(len, distinct)), np.float32), shape)


def _rows(lists: list[list[int]], values: Float32, shape: tuple[int, int]) -> sp.csr_matrix:
    indptr = np.cumsum([0, *map(len, lists)])
    return sp.csr_matrix(
        (values, np.array([item for some in lists for item in some], dtype=np.int32), indptr), shape=shape
    )


def _spread(model: FactorModel, sources: sp.csr_matrix, links: sp.csr_matrix) -> float:
    """Standard deviation of the model's scores over that of the transitions', for a few steps."""
    few = np.arange(min(sources.shape[0], max(1, BLOCK_CELLS // model.n_items)), dtype=np.int32)
    scores, added = (
        float(np.mean(block.std(axis=1))) for block in (model.scores(few), dense_product(sources[few], links))
    )
    return scores / added if scores > 0 and added > 0 else 1.0


def _hits(
    model: FactorModel, sources: sp.csr_matrix, links: sp.csr_matrix, seen: sp.csr_matrix, targets: Int32
) -> float:
    """Share of the steps whose next item is among the best 20 that the session has not had."""
    found, step = 0, max(1, BLOCK_CELLS // model.n_items)
    for start in range(0, len(targets), step):
        block = np.arange(start, min(start + step, len(targets)), dtype=np.int32)
        scores = model.scores(block) + dense_product(sources[block], links)
        found += int((top_k(mask(scores, seen[block]), K) == targets[block, None]).any(axis=1).sum())
    return found / len(targets)
