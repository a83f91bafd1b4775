"""What our bids met with moves the landscape, wins and losses alike."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.landscape import EDGES_CPM, FORGOTTEN_AT_ONCE, MAX_OPEN, SILENCE_MS, Landscape
from headrace.bidding.price import make_market
from headrace.errors import ArtifactCorruptError
from headrace.v1 import bidder_pb2 as pb

WIN, LOSS = pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_LOSS


def landscape(median=1e6):
    edges = np.unique(np.geomspace(1e4, 1e9, 65).astype(np.int64))
    prices = median * np.exp(0.5 * np.random.default_rng(0).standard_normal(10_000))
    return Landscape(make_market(edges, np.histogram(prices, edges)[0].astype(float)[None]))


def cost_at(land, value):
    return float(np.interp(value, np.sqrt(EDGES_CPM[:-1] * EDGES_CPM[1:]), land.costs[0]))


def test_edges_that_do_not_ascend_are_refused():
    with pytest.raises(ArtifactCorruptError, match="ascend"):
        make_market(np.array([0, 5, 5]), np.ones((1, 2)))


def test_costs_by_hand():
    land = Landscape(make_market(np.array([2**20, 2**20 + 2**14]), np.array([[1.0]])))
    assert cost_at(land, 2.0**30) == pytest.approx(2**20, rel=0.2)
    assert cost_at(land, 2.0**15) == 0.0
    assert (np.diff(land.costs, axis=1) >= 0).all()


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("scale", [0.1, 10.0])
def test_it_finds_prices_ten_times_off_whether_losses_are_told_or_not(scale, silent):
    land, truth = landscape(), landscape(scale * 1e6)
    rng = np.random.default_rng(1)
    for n in range(4_000):
        bid, price = (int(scale * 1e6 * np.exp(x)) for x in (rng.normal(0, 1), 0.5 * rng.normal()))
        land.placed([f"t{n}"], [bid], [False], n * 1000)
        if bid >= price:
            land.heard([WIN], [f"t{n}"], [price], [None])
        elif not silent:
            land.heard([LOSS], [f"t{n}"], [None], [None])
        land.forget_before(n * 1000)
    value = 1.5 * scale * 1e6
    assert cost_at(land, value) == pytest.approx(cost_at(truth, value), rel=0.2)


def test_each_bid_teaches_once_and_strangers_nothing():
    land = landscape()
    before = land.costs.copy()
    land.heard([WIN, LOSS], ["nobody's", "nobody's"], [10, None], [None, None])
    np.testing.assert_array_equal(land.costs, before)
    land.placed(["mine", None], [10**6, 0], [False, False], 1)
    land.heard([WIN], ["mine"], [100], [None])
    after = land.costs.copy()
    land.heard([WIN], ["mine"], [100], [None])
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(land.costs, after)


def test_a_first_price_win_tells_only_that_the_price_was_not_above():
    land = landscape()
    before = cost_at(land, 1e6)
    for n in range(50):
        land.placed([str(n)], [10**6], [True], 1)
        land.heard([WIN], [str(n)], [10**6], [None])
    assert before < cost_at(land, 1e6) < 1e6


def test_open_bids_are_bounded_and_end_in_silence():
    land = landscape()
    land.placed([str(n) for n in range(MAX_OPEN + 10)], [1] * (MAX_OPEN + 10), [False] * (MAX_OPEN + 10), 1)
    assert len(land._open) == MAX_OPEN
    land.forget_before(SILENCE_MS)
    assert len(land._open) == MAX_OPEN
    land.forget_before(SILENCE_MS + 1)
    assert len(land._open) == MAX_OPEN - FORGOTTEN_AT_ONCE, "bidding waits while bids are forgotten"
    for _ in range(MAX_OPEN // FORGOTTEN_AT_ONCE - 1):
        land.forget_before(SILENCE_MS + 1)
    assert not land._open


def test_bids_forgotten_together_teach_what_they_teach_one_by_one():
    together, single = landscape(), landscape()
    bids = [int(1e6 * 1.5 ** (n % 7 - 3)) for n in range(100)]
    together.placed([str(n) for n in range(100)], bids, [False] * 100, 1)
    together.forget_before(SILENCE_MS + 1)
    for n, bid in enumerate(bids):
        single.placed([str(n)], [bid], [False], 1)
        single.forget_before(SILENCE_MS + 1)
    for value in (5e5, 1e6, 3e6):
        assert cost_at(together, value) == pytest.approx(cost_at(single, value), rel=0.1)
