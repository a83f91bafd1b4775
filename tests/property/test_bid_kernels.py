"""The kernels of matching, prediction and pricing agree with their plain twins, on edge values too."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.bidding import requests as reasons
from headrace.bidding.predict import MAX_COPIED, lay_out
from headrace.kernels import match, predict, price
from headrace.kernels.history import Merged
from headrace.reference import match as plain_match
from headrace.reference import predict as plain_predict
from headrace.reference import price as plain_price
from headrace.v1 import bidder_pb2

seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(1, 200), st.integers(1, 5), st.integers(0, 6))
def test_matches(seed, n_lines, n_requests, n_terms):
    rng = np.random.default_rng(seed)
    w = -(-n_lines // 64)

    def bits(rows):
        flags = rng.random((rows, w * 64)) < 0.7
        flags[:, n_lines:] = False
        return np.packbits(flags, axis=1, bitorder="little").view(np.uint64).reshape(rows, w)

    targets = match.Targets(
        bits(3),
        bits(n_terms),
        bits(2),
        bits(3),
        rng.integers(0, 5, n_lines),
        rng.integers(0, 9, n_lines),
        rng.random(n_lines) < 0.2,
    )
    indptr = np.cumsum([0, *rng.integers(0, 3 if n_terms else 1, 3 * n_requests)]).astype(np.int32)
    asked = match.Asked(
        indptr,
        rng.integers(0, max(n_terms, 1), indptr[-1]).astype(np.int32),
        rng.integers(0, 2, n_requests).astype(np.int32),
        rng.integers(0, 3, n_requests).astype(np.int32),
        rng.integers(0, 9, n_requests),
    )
    counts, starts = np.empty((n_requests, 2), np.int32), np.empty(n_requests + 1, np.int64)
    needed = match.match_requests(targets, asked, counts, starts, np.empty(1, np.int32))
    lines = np.empty(needed, np.int32)
    assert match.match_requests(targets, asked, counts, starts, lines) == needed
    ours = [
        (int(counts[r, 0]), int(counts[r, 1]), lines[starts[r] : starts[r + 1]].tolist()) for r in range(n_requests)
    ]
    assert ours == plain_match.match_requests(targets, asked)


@given(seeds, st.integers(0, 6), st.integers(0, 12), st.sampled_from([0.0, 1.0, np.nan, np.inf]))
def test_best_promoted_item(seed, n_history, n_promoted, odd):
    rng = np.random.default_rng(seed)
    n_items, d, n_lines, n = 8, 5, 4, 3
    popularity, frequency = rng.random(n_items).astype(np.float32), np.empty(n_items, np.float32)
    predict.item_frequencies(popularity, frequency)
    model = predict.Model(
        rng.normal(size=(n_items, d)).astype(np.float32),
        popularity,
        frequency,
        rng.normal(size=6).astype(np.float32),
        0.1,
        np.array([-2.0, 0.0, 1.0]),
        np.array([0.0, 0.25, 1.0]),
    )
    embeddings = rng.normal(size=(n, d + 3)).astype(np.float32)
    embeddings[0, 0] *= np.float32(odd)
    rows = np.concatenate([rng.permutation(n_items + 2)[:n_history] for _ in range(n)]).astype(np.int32)
    size = len(rows)
    history = Merged(
        np.arange(n + 1) * n_history,
        rows,
        np.ones(size, np.float32),
        rng.integers(0, 3, size).astype(np.float32),
        rng.integers(0, 9, size),
        rng.integers(0, 3, size) * 86_400_000,
        rng.integers(0, 99, n).astype(np.float32),
        rng.integers(0, 3, n) * 86_400_000,
    )
    persons = predict.Persons(embeddings, history, (rng.random(n_items + 2) < 0.3).astype(np.uint32))
    candidates = predict.Candidates(
        np.array([0, 4, 4, 6]),
        np.array([0, 1, 2, 3, 1, 3], np.int32),
        np.arange(n_lines + 1) * n_promoted,
        rng.integers(-1, n_items + 4, n_lines * n_promoted).astype(np.int32),
    )
    time_ms = np.array([5, 6, 7]) * 86_400_000
    where = np.full(n_items + 2, -1, np.int32)
    probability, position = np.empty(6), np.empty(6, np.int32)
    table = lay_out(model, candidates.items)
    # lists that repeat the model's items often are read through their rows
    assert (table.factors is model.item_factors) == (n_lines * n_promoted > MAX_COPIED * n_items)
    predict.best_promoted(model, table, persons, candidates, time_ms, where, probability, position)
    assert (where == -1).all()
    plain = plain_predict.best_promoted(model, persons, candidates, time_ms)
    np.testing.assert_allclose(probability, [chance for chance, _ in plain], atol=1e-5)
    for offer, (_, place) in enumerate(plain):
        # rounding may separate what is equal in the other's arithmetic
        assert position[offer] == place or probability[offer] > 0


edges_and_rates = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 10_000), min_size=n + 1, max_size=n + 1, unique=True).map(sorted),
        st.lists(st.floats(0, 1), min_size=n, max_size=n).map(sorted),
    )
)


@given(edges_and_rates, st.integers(1, 12_000), st.floats(0, 1))
def test_a_shaded_bid_is_as_good_as_any_of_a_fine_grid(landscape, value, floor_share):
    edges, rates = np.array(landscape[0], float), np.array([0.0, *landscape[1]])
    floor = float(int(value * floor_share))
    bid = price.shade(float(value), floor, edges, rates)
    assert floor <= bid <= value
    best = plain_price.shade(float(value), floor, edges, rates)
    ours, theirs = (plain_price.surplus(b, value, edges, rates) for b in (bid, best))
    assert ours >= theirs - 1e-9 * value


def test_shading_by_hand():
    edges, rates = np.array([0.0, 100.0]), np.array([0.0, 1.0])
    assert price.shade(80.0, 0.0, edges, rates) == 40.0  # (80 - b) b / 100
    assert price.shade(80.0, 60.0, edges, rates) == 60.0
    assert price.shade(500.0, 0.0, edges, rates) == 100.0
    assert price.shade(80.0, 0.0, np.array([100.0, 200.0]), rates) == 80.0  # nothing can win


NO_STRATEGIES = price.Strategies(
    address=np.zeros(0, np.int64),
    shades=np.zeros(0, bool),
    row=np.zeros(0, np.int32),
    parameters=np.zeros((0, price.N_PARAMETERS)),
    max_bid_cpm=10**12,
    max_over_value=2.0,
    ask=np.empty((1, price.N_ASKED)),
    counts=np.zeros((0, 3), np.int64),
)


@given(seeds, st.integers(0, 9), st.integers(1, 4))
def test_prices_and_order(seed, n_offers, n_best):
    rng = np.random.default_rng(seed)
    m = 5
    terms = price.Terms(
        rng.choice([0, 1, 10**6, 10**16], m),
        rng.choice([1, 500, 10**12], m),
        rng.choice([1, 700, 10**15], m),
        rng.choice([0.0, 0.25, 1.0, 16.0], m),
        rng.random(m) < 0.2,
        rng.choice([0, 0, 400, 10**9], m),
        np.ones(m),
        np.ones(m),
    )
    offers = price.Offers(
        np.array([0, n_offers]),
        rng.integers(0, m, n_offers).astype(np.int32),
        rng.choice([0.0, 1e-9, 0.5, 1.0, np.nan, np.inf, -np.inf], n_offers),
    )
    value_cpm = np.empty(n_offers, np.int64)
    price.value_offers(terms, offers, value_cpm)
    np.testing.assert_array_equal(value_cpm, plain_price.value_offers(terms, offers))
    floors = np.array([0, 1, 500, 10**9])
    auctions = price.Auctions(
        np.zeros(4, np.int32), floors, np.zeros(4, bool), np.zeros(4, np.int32), np.empty((4, n_best), np.int64)
    )
    market = price.Market(np.array([0.0, 1e6]), np.array([[0.0, 1.0]]))
    ranked, bids = np.empty((4, n_best), np.int32), np.empty((4, n_best), np.int64)
    price.price_auctions(market, terms, NO_STRATEGIES, offers, value_cpm, auctions, ranked, bids)
    for auction, floor in enumerate(floors.tolist()):
        ours = list(zip(ranked[auction].tolist(), bids[auction].tolist(), strict=True))
        plain = plain_price.rank(terms, offers, value_cpm, 0, floor, n_best)
        assert ours == plain + [(-1, 0)] * (n_best - len(plain))


def test_the_kernels_reasons_are_the_contracts():
    for name in (
        "NO_MATCH",
        "BUDGET",
        "BELOW_FLOOR",
        "LEDGER_NOT_OWNER",
        "BRAKE",
        "JOURNAL_UNAVAILABLE",
        "INSUFFICIENT_TIME",
        "CURRENCY",
        "PACED",
        "FENCED",
        "STRATEGY",
    ):
        assert getattr(reasons, name) == bidder_pb2.NoBidReason.Value(f"NO_BID_REASON_{name}")
    for name in ("BUDGET", "BELOW_FLOOR", "PACED", "STRATEGY"):
        assert getattr(price, name) == getattr(reasons, name)


@given(edges_and_rates)
def test_expected_costs_ascend_and_agree(landscape):
    edges, rates = 1.0 + np.array(landscape[0], float), np.array([0.0, *landscape[1]])
    values = np.concatenate([np.sqrt(edges[:-1] * edges[1:]), [2.0 * edges[-1]]])
    out = np.empty((2, len(values)))
    price.expected_costs(edges, rates, values, out)
    assert (np.diff(out, axis=1) >= 0).all()
    plain = plain_price.expected_costs(edges, rates, values)
    np.testing.assert_allclose(out[0], plain[0], rtol=1e-9, atol=1e-9)
    # where two shaded bids are as good their costs may still differ, so only one that is the grid's own is compared
    assert (out[1] <= values + 1e-9).all()
