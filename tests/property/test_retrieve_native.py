"""Native search and slates against their plain twins, on edge values and with every pass that the processor has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import _native
from headrace.kernels.history import Merged
from headrace.reference import repeats, topk

DAY_MS = 86_400_000
PASSES = _native.scan_passes()


@pytest.fixture(autouse=True)
def _usual_pass() -> Iterator[None]:
    yield
    _native.use_scan_pass(PASSES[0])


@dataclass(frozen=True)
class Case:
    """People's vectors and wishes over items, all plain; what is left out is empty."""

    factors: np.ndarray
    vectors: np.ndarray
    limits: np.ndarray
    barred: np.ndarray
    warm: np.ndarray
    exclude_purchased: np.ndarray
    merged: Merged
    excluded: list[np.ndarray]
    boost: float = 0.0
    candidates: list[np.ndarray] | None = None
    popularity: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def order(self) -> np.ndarray:
        return np.lexsort((np.arange(len(self.popularity)), -self.popularity)).astype(np.int32)

    def run(self) -> list[tuple[np.ndarray, np.ndarray]]:
        native = _native.Retriever(self.factors, self.order, self.popularity, self.boost, 60.0)
        n, k = len(self.limits), int(self.limits.max(initial=0))
        rows, scores = np.full((n, k), -7, np.int32), np.full((n, k), np.nan, np.float32)
        counts, found = np.zeros(n, np.int32), np.zeros(n, np.int32)
        native.retrieve(
            self.vectors, self.warm, self.limits, self.exclude_purchased, self.merged.indptr, self.merged.rows,
            self.merged.n_bought, self.merged.last_bought_ms, self.merged.last_event_ms, *csr(self.excluded, np.int32),
            *((None, None) if self.candidates is None else csr(self.candidates, np.int64)), self.barred, rows, scores,
            counts, found,
        )  # fmt: skip
        return [(rows[q, : counts[q]], scores[q, : counts[q]]) for q in range(n)]

    def alone(self, q: int) -> Case:
        part, merged = slice(q, q + 1), self.merged
        return replace(
            self, vectors=self.vectors[part], limits=self.limits[part], warm=self.warm[part],
            exclude_purchased=self.exclude_purchased[part], excluded=self.excluded[part],
            merged=merged._replace(indptr=merged.indptr[q : q + 2], last_event_ms=merged.last_event_ms[part]),
        )  # fmt: skip

    def allowed(self, q: int) -> np.ndarray:
        mine = self.barred == 0
        mine[self.excluded[q][(self.excluded[q] >= 0) & (self.excluded[q] < len(mine))]] = False
        if self.exclude_purchased[q]:
            part = slice(self.merged.indptr[q], self.merged.indptr[q + 1])
            mine[self.merged.rows[part][self.merged.n_bought[part] > 0]] = False
        return mine


def csr(parts: list[np.ndarray], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    indptr = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    return indptr, np.concatenate([*parts, []]).astype(dtype)


def make_case(
    seed: int, n_items: int, d: int, n: int, *, whole: bool = True, extra: int = 0, boost: float = 0.0
) -> Case:
    """whole : factors are small whole numbers, whose products are exact and often tie."""
    rng = np.random.default_rng(seed)
    draw = (lambda *shape: rng.integers(-2, 3, shape)) if whole else (lambda *shape: rng.normal(size=shape))
    factors, vectors = draw(n_items, d).astype(np.float32), draw(n, d + 4).astype(np.float32)
    factors *= 1.0 if whole else np.exp(rng.normal(size=(n_items, 1)) * 2).astype(np.float32)
    n_rows = n_items + extra
    sizes = rng.integers(0, min(n_rows, 9) + 1, n)
    rows = [rng.permutation(n_rows)[:size] for size in sizes]
    indptr, flat = csr(rows, np.int32)
    times = rng.integers(0, 400 * DAY_MS, len(flat))
    last = np.array([times[indptr[q] : indptr[q + 1]].max(initial=0) for q in range(n)], dtype=np.int64)
    ones = np.ones(len(flat), dtype=np.float32)
    bought = rng.integers(0, 3, len(flat)).astype(np.float32)
    return Case(
        factors=factors,
        vectors=vectors,
        limits=rng.choice([1, 2, 20, 400], size=n).astype(np.int32),
        barred=np.where(rng.random(n_rows) < rng.choice([0.0, 0.5, 1.0]), 0xFFFFFFFF, 0).astype(np.uint32),
        warm=rng.integers(0, 2, n).astype(np.int8),
        exclude_purchased=rng.integers(0, 2, n).astype(np.int8),
        merged=Merged(indptr, flat, ones, bought, times, times, np.diff(indptr).astype(np.float32), last),
        excluded=[rng.integers(-1, n_rows + 2, rng.integers(0, 5)).astype(np.int32) for _ in range(n)],
        boost=boost,
        popularity=rng.random(n_items).astype(np.float32),
    )


SEED = st.integers(0, 2**32 - 1)
SIZES = st.sampled_from([0, 1, 2, 63, 64, 65, 300])


@given(
    seed=SEED, n_items=SIZES, d=st.sampled_from([1, 3, 4, 7, 8, 33]), n=st.sampled_from([1, 3, 5, 33]),
    whole=st.booleans(), extra=st.sampled_from([0, 3]), which=st.sampled_from(PASSES),
)  # fmt: skip
def test_slates_are_those_of_a_full_sort(
    seed: int, n_items: int, d: int, n: int, whole: bool, extra: int, which: str
) -> None:
    _native.use_scan_pass(which)
    case = make_case(seed, n_items, d, n, whole=whole, extra=extra)
    for q, (rows, scores) in enumerate(case.run()):
        allowed, k = case.allowed(q), int(case.limits[q])
        values = topk.exact_scores(case.factors, case.vectors[q, :d]) if case.warm[q] else case.popularity
        wanted, best = topk.top_scores(values, allowed[:n_items], k)
        fill = n_items + np.flatnonzero(allowed[n_items:])[: k - len(wanted)]
        assert len(rows) == len(wanted) + len(fill)
        assert len(set(rows.tolist())) == len(rows)
        assert rows[len(wanted) :].tolist() == fill.tolist()
        assert allowed[rows].all()
        scale = np.abs(case.factors).max(initial=0.0) * np.abs(case.vectors[q]).max(initial=0.0) * d
        np.testing.assert_allclose(scores[: len(wanted)], best, rtol=1e-5, atol=1e-6 * max(scale, 1.0))
        assert not scores[len(wanted) :].any()
        if whole or not case.warm[q]:  # exact in float32, so ties are ties
            assert rows[: len(wanted)].tolist() == wanted.tolist()


@given(seed=SEED, d=st.sampled_from([3, 8, 64]), boost=st.sampled_from([0.0, 0.5]))
def test_an_answer_is_the_same_bits_beside_any_companions_and_by_any_pass(seed: int, d: int, boost: float) -> None:
    case = make_case(seed, 260, d, 34, whole=False, extra=2, boost=boost)
    together = case.run()
    for q, (rows, scores) in enumerate(together):
        _native.use_scan_pass(PASSES[q % len(PASSES)])
        ((alone, alone_scores),) = case.alone(q).run()
        assert rows.tolist() == alone.tolist()
        assert scores.tobytes() == alone_scores.tobytes()


@given(seed=SEED, n=st.integers(1, 4), boost=st.sampled_from([0.5, 3.0]), d=st.sampled_from([4, 9]))
def test_what_was_bought_is_lifted_where_it_may_appear(seed: int, n: int, boost: float, d: int) -> None:
    case = make_case(seed, 12, d, n, extra=3, boost=boost)
    wanted = (case.warm != 0) & (case.exclude_purchased == 0)
    lifts = repeats.repeat_lifts(case.merged, wanted.astype(np.int8), 12, boost, 60.0)
    for q, (rows, scores) in enumerate(case.run()):
        if not case.warm[q]:
            continue
        exact = case.factors.astype(np.float64) @ case.vectors[q, :d]
        best_rows, best = repeats.top_with_repeats(exact, lifts[q], case.allowed(q)[:12], int(case.limits[q]))
        np.testing.assert_allclose(scores[: len(best)], best, rtol=1e-5, atol=1e-5)
        assert len(set(rows.tolist())) == len(rows)
        if len(set(np.round(best, 4).tolist())) == len(best) < int(case.limits[q]):
            assert rows[: len(best)].tolist() == best_rows.tolist()


@given(seed=SEED, k=st.sampled_from([1, 7, 300]))
def test_candidates_score_bit_for_bit_as_the_scan(seed: int, k: int) -> None:
    case = replace(make_case(seed, 200, 16, 1, whole=False), warm=np.ones(1, np.int8))
    case = replace(case, limits=np.full(1, k, np.int32))
    ((rows, scores),) = case.run()
    everything = np.arange(-1, 201)  # an index says -1 where it has no more
    ((same, same_scores),) = replace(case, candidates=[everything]).run()
    assert rows.tolist() == same.tolist()
    assert scores.tobytes() == same_scores.tobytes()


@pytest.mark.parametrize("which", PASSES)
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e18])
def test_factors_of_any_magnitude_rank(which: str, scale: float) -> None:
    _native.use_scan_pass(which)
    case = make_case(5, 300, 8, 6, whole=False)
    case = replace(case, warm=np.ones(6, np.int8), barred=np.zeros(300, np.uint32), limits=np.full(6, 20, np.int32))
    case = replace(case, factors=case.factors * np.float32(scale))
    for q, (rows, scores) in enumerate(case.run()):
        exact = case.factors.astype(np.float64) @ case.vectors[q, :8]
        best = np.sort(exact[case.allowed(q)])[::-1][:20]
        np.testing.assert_allclose(scores, best, rtol=1e-3, atol=1e-44)
        assert len(rows) == 20


def test_arrays_that_do_not_fit_are_refused() -> None:
    case = make_case(0, 30, 4, 2)
    for wrong in (
        {"vectors": case.vectors[:, :3].copy()},
        {"limits": case.limits[:1]},
        {"barred": case.barred[:29]},
        {"merged": case.merged._replace(rows=case.merged.rows + 1000)},
        {"merged": case.merged._replace(indptr=case.merged.indptr[::-1].copy())},
        {"popularity": case.popularity[:5]},
    ):
        with pytest.raises(ValueError, match="do not fit"):
            replace(case, **wrong).run()  # type: ignore[arg-type]


def test_making_the_search_pauses_after_every_stretch_and_at_the_end() -> None:
    n = 2 * 65_536 + 1
    order, popularity, pauses = np.arange(n, dtype=np.int32), np.ones(n, dtype=np.float32), []
    _native.Retriever(np.zeros((n, 1), dtype=np.float32), order, popularity, 0.0, 1.0, lambda: pauses.append(1))
    assert len(pauses) == 3


def test_an_error_in_a_pause_reaches_the_caller() -> None:
    def fail() -> None:
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        _native.Retriever(np.zeros((1, 1), np.float32), np.zeros(1, np.int32), np.ones(1, np.float32), 0.0, 1.0, fail)
