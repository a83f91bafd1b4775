"""Blended scores, native, against a dense sum of products, links, transitions and lifts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import _native
from headrace.artifact_format import BlendTerms
from headrace.kernels.history import Merged
from headrace.reference.blend import PlainBlend, blend_additions
from headrace.reference.repeats import repeat_lifts

DAY_MS = 86_400_000
NOW_MS = 500 * DAY_MS
PASSES = _native.scan_passes()
NO_LINKS = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


@pytest.fixture(autouse=True)
def _usual_pass() -> object:
    yield
    _native.use_scan_pass(PASSES[0])


@dataclass(frozen=True)
class Case:
    factors: np.ndarray
    vectors: np.ndarray
    limits: np.ndarray
    exclude_purchased: np.ndarray
    barred: np.ndarray
    merged: Merged
    excluded: list[np.ndarray]
    plain: PlainBlend
    boost: float

    @property
    def n_items(self) -> int:
        return len(self.factors)

    def run(
        self, candidates: np.ndarray | None = None, part: slice | None = None
    ) -> list[tuple[list[int], np.ndarray]]:
        part = part or slice(0, len(self.limits))
        n, k = part.stop - part.start, int(self.limits[part].max(initial=0))
        rows, scores = np.full((n, k), -7, np.int32), np.full((n, k), np.nan, np.float32)
        counts, found, popularity = np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(self.n_items, np.float32)
        order = np.arange(self.n_items, dtype=np.int32)
        native = _native.Retriever(self.factors, order, popularity, self.boost, 60.0, None, self.native_blend())
        excluded = np.cumsum([0, *map(len, self.excluded)], dtype=np.int64)
        merged = self.merged
        pointers = slice(part.start, part.stop + 1)
        native.retrieve(
            self.vectors[part], np.ones(n, np.int8), self.limits[part], self.exclude_purchased[part],
            merged.indptr[pointers], merged.rows, merged.n_bought, merged.last_bought_ms, merged.last_event_ms[part],
            excluded[pointers], np.concatenate([*self.excluded, []]).astype(np.int32),
            None if candidates is None else np.arange(n + 1) * len(candidates),
            None if candidates is None else np.tile(candidates, n),
            self.barred, rows, scores, counts, found, merged.weights, merged.last_ms, NOW_MS,
        )  # fmt: skip
        return [(rows[q, : counts[q]].tolist(), scores[q, : counts[q]]) for q in range(n)]

    def native_blend(self) -> _native.Blend:
        terms = self.plain.terms
        links = [
            _native.Links(*(csr(dense) if len(dense) else NO_LINKS)) for dense in (self.plain.items, self.plain.session)
        ]
        return _native.Blend(
            links[0], terms.item_weight, terms.new_item_weight, terms.power, terms.half_life_days,
            terms.length_power, links[1], terms.session_weight, terms.session_minutes * 60_000, self.plain.decay,
        )  # fmt: skip

    def truth(self, q: int) -> tuple[np.ndarray, np.ndarray]:
        """Dense scores, float64, and which rows may be shown."""
        total = self.factors.astype(np.float64) @ self.vectors[q, : self.factors.shape[1]]
        total += blend_additions(self.plain, self.merged, q, NOW_MS, only_new=bool(self.exclude_purchased[q]))
        nobody = np.zeros(len(self.limits), np.int8)
        nobody[q] = 1
        lifts = repeat_lifts(self.merged, nobody, self.n_items, self.boost, 60.0)[q]
        total[list(lifts)] += list(lifts.values())
        allowed = self.barred[: self.n_items] == 0
        allowed[[row for row in self.excluded[q] if row < self.n_items]] = False
        part = slice(self.merged.indptr[q], self.merged.indptr[q + 1])
        bought = self.merged.rows[part][self.merged.n_bought[part] > 0]
        if self.exclude_purchased[q]:
            allowed[bought[bought < self.n_items]] = False
        return total, allowed


def csr(dense: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, np.arange(len(dense) + 1)).astype(np.int64)
    return indptr, columns.astype(np.int32), dense[rows, columns]


def make_case(seed: int, n_items: int, d: int, n: int, *, whole: bool, terms: BlendTerms, boost: float = 0.0) -> Case:
    """whole : small whole numbers throughout, whose sums are exact and often tie."""
    rng = np.random.default_rng(seed)
    draw = (lambda *shape: rng.integers(-2, 3, shape)) if whole else (lambda *shape: rng.normal(size=shape))
    n_rows = n_items + 2
    rows = [rng.permutation(n_rows)[: rng.integers(0, min(n_rows, 12) + 1)] for _ in range(n)]
    indptr = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    flat = np.concatenate([*rows, []]).astype(np.int32)
    # from last year to this very minute, so that some sessions are under way
    ages = rng.choice([0, 60_000, 600_000, 20 * 60_000, 3_600_000, DAY_MS, 90 * DAY_MS], size=len(flat))
    times = NOW_MS - ages
    last = np.array([times[a:z].max(initial=0) for a, z in itertools.pairwise(indptr)], dtype=np.int64)
    weights = (rng.integers(0, 4, len(flat)) if whole else rng.random(len(flat)) * 5).astype(np.float32)
    bought = rng.integers(0, 3, len(flat)).astype(np.float32)
    dense = [
        (draw(n_items, n_items) * (rng.random((n_items, n_items)) < share)).astype(np.float32) for share in (0.2, 0.1)
    ]
    return Case(
        factors=(draw(n_items, d) * (1.0 if whole else np.exp(rng.normal(size=(n_items, 1))))).astype(np.float32),
        vectors=np.where(rng.random((n, 1)) < 0.2, 0, draw(n, d + 4)).astype(np.float32),
        limits=rng.choice([1, 2, 20, 400], size=n).astype(np.int32),
        exclude_purchased=rng.integers(0, 2, n).astype(np.int8),
        barred=np.where(rng.random(n_rows) < rng.choice([0.0, 0.5, 1.0]), 0xFFFFFFFF, 0).astype(np.uint32),
        merged=Merged(indptr, flat, weights, bought, times, times, np.diff(indptr).astype(np.float32), last),
        excluded=[rng.integers(0, n_rows, rng.integers(0, 5)).astype(np.int32) for _ in range(n)],
        plain=PlainBlend(dense[0], dense[1], np.array([1.0, 0.5, 0.25], np.float32), terms),
        boost=boost,
    )


SEED = st.integers(0, 2**32 - 1)
TERMS = st.builds(
    BlendTerms,
    item_weight=st.sampled_from([0.0, 0.3, 4.0]),
    new_item_weight=st.sampled_from([0.0, 0.7, 3.0]),
    power=st.sampled_from([0.0, 0.5, 1.0]),
    half_life_days=st.sampled_from([0.0, 30.0]),
    length_power=st.sampled_from([0.0, 0.5, 1.0]),
    session_weight=st.sampled_from([0.0, 2.0]),
    session_minutes=st.sampled_from([1.0, 30.0]),
)
WHOLE = BlendTerms(item_weight=2.0, new_item_weight=1.0, session_weight=4.0)
"""Terms under which whole numbers stay whole, or quarters of them."""


@given(
    seed=SEED, n_items=st.sampled_from([1, 63, 64, 65, 200]), d=st.sampled_from([1, 8, 33]),
    n=st.sampled_from([1, 5, 33]), terms=TERMS, boost=st.sampled_from([0.0, 0.5]), which=st.sampled_from(PASSES),
)  # fmt: skip
def test_blended_slates_are_those_of_a_dense_sum(
    seed: int, n_items: int, d: int, n: int, terms: BlendTerms, boost: float, which: str
) -> None:
    _native.use_scan_pass(which)
    case = make_case(seed, n_items, d, n, whole=False, terms=terms, boost=boost)
    for q, (rows, scores) in enumerate(case.run()):
        total, allowed = case.truth(q)
        best = np.sort(total[allowed])[::-1][: case.limits[q]]
        np.testing.assert_allclose(scores[: len(best)], best, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(total[rows[: len(best)]], best, rtol=1e-4, atol=1e-4)
        assert allowed[rows[: len(best)]].all()
        assert len(set(rows)) == len(rows)


@given(seed=SEED, n_items=st.sampled_from([2, 64, 130]), which=st.sampled_from(PASSES))
def test_ties_of_blended_scores_go_to_the_lower_row(seed: int, n_items: int, which: str) -> None:
    _native.use_scan_pass(which)
    case = make_case(seed, n_items, 3, 5, whole=True, terms=WHOLE)
    for q, (rows, scores) in enumerate(case.run()):
        total, allowed = case.truth(q)
        order = np.lexsort((np.arange(n_items), -total))
        wanted = order[allowed[order]][: case.limits[q]]
        assert rows[: len(wanted)] == wanted.tolist()
        assert scores[: len(wanted)].tolist() == total[wanted].tolist()


@given(seed=SEED, terms=TERMS, boost=st.sampled_from([0.0, 0.5]))
def test_a_blended_answer_is_the_same_bits_alone_and_from_candidates(
    seed: int, terms: BlendTerms, boost: float
) -> None:
    case = make_case(seed, 150, 8, 34, whole=False, terms=terms, boost=boost)
    together = case.run()
    indexed = case.run(candidates=np.arange(-1, 150))
    for q, (rows, scores) in enumerate(together):
        for other_rows, other_scores in (case.run(part=slice(q, q + 1))[0], indexed[q]):
            assert rows == other_rows
            assert scores.tobytes() == other_scores.tobytes()


def test_only_the_latest_five_hundred_of_a_history_count() -> None:
    n, terms = 700, BlendTerms(item_weight=1.0, new_item_weight=1.0)
    times = NOW_MS - 1000 * np.repeat(np.arange(n // 2), 2)
    rng = np.random.default_rng(3)
    case = make_case(0, n, 4, 1, whole=True, terms=terms)
    weights, bought = np.ones(n, np.float32), np.zeros(n, np.float32)
    merged = Merged(
        np.array([0, n]), rng.permutation(n).astype(np.int32), weights, bought, times, times, weights[:1], times[:1]
    )
    case = Case(**{**case.__dict__, "merged": merged, "barred": np.zeros(n, np.uint32), "excluded": [merged.rows[:0]]})
    ((rows, scores),) = case.run()
    np.testing.assert_allclose(scores, case.truth(0)[0][rows], rtol=1e-5, atol=1e-5)


def test_no_links_add_nothing() -> None:
    case = make_case(
        1, 90, 8, 6, whole=False, terms=BlendTerms(item_weight=1.0, new_item_weight=1.0, session_weight=1.0)
    )
    without = Case(**{**case.__dict__, "plain": PlainBlend(np.zeros((0, 0), np.float32), *NO_LINKS[2:] * 2, WHOLE)})
    never = Case(
        **{**case.__dict__, "plain": PlainBlend(case.plain.items, case.plain.session, case.plain.decay, BlendTerms())}
    )
    for (rows, scores), (same, same_scores) in zip(without.run(), never.run(), strict=True):
        assert rows == same
        assert scores.tolist() == same_scores.tolist()


def test_links_that_do_not_fit_are_refused() -> None:
    indptr, items, weights = np.array([0, 1, 2]), np.array([1, 0], np.int32), np.ones(2, np.float32)
    for wrong in (
        (indptr[::-1].copy(), items, weights),
        (indptr, items + 1, weights),
        (indptr, items - 1, weights),
        (indptr, items, weights[:1]),
        (indptr + 1, items, weights),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            _native.Links(*wrong)
    links, none = _native.Links(indptr, items, weights), _native.Links(*NO_LINKS)
    blend = _native.Blend(links, 1.0, 1.0, 1.0, 0.0, 0.0, none, 0.0, 0.0, weights[:0])
    with pytest.raises(ValueError, match="do not fit"):
        _native.Retriever(
            np.ones((3, 2), np.float32), np.arange(3, dtype=np.int32), np.ones(3, np.float32), 0.0, 1.0, None, blend
        )
