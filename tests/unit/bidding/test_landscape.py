"""What our bids met with moves the landscape, wins and losses alike."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.pricing.landscape import FORGOTTEN_AT_ONCE, MAX_OPEN, SILENCE_MS, VALUES_CPM, Landscape, Open
from headrace.bidding.pricing.price import make_market
from headrace.bidding.pricing.winrate import EDGES_CPM, floor_band
from headrace.errors import ArtifactCorruptError
from headrace.kernels.price import shade, win_rate_at
from headrace.v1 import bidder_pb2 as pb

WIN, BILLING, LOSS = pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_BILLING, pb.NOTICE_TYPE_LOSS
KEY = ("adx", "USD", "top", 0)


def market(median=1e6):
    edges = np.unique(np.geomspace(1e4, 1e9, 65).astype(np.int64))
    prices = median * np.exp(0.5 * np.random.default_rng(0).standard_normal(10_000))
    return make_market(edges, np.histogram(prices, edges)[0].astype(float)[None])


class Land(Landscape):
    """Learns at once."""

    def refresh(self, now_ms):
        self.learn(self.gather(now_ms))


def landscape(median=1e6):
    return Land(market(median))


def place(land, token, bid_cpm, *, first=False, at_ms=1, key=KEY):
    land.placed({token: Open(key, bid_cpm, first, False, at_ms)})


def tell(land, kind, token, price=None, minimum=None):
    land.heard([kind], [token], [price], [minimum])


def cost_at(land, value):
    return float(np.interp(value, VALUES_CPM, land.costs[0]))


def rate_at(land, bid, key=KEY):
    prices = land.prices
    return win_rate_at(float(bid), prices.market.edges_cpm, prices.market.win_rate[prices.row(key)])


def test_edges_that_do_not_ascend_are_refused():
    with pytest.raises(ArtifactCorruptError, match="ascend"):
        make_market(np.array([0, 5, 5]), np.ones((1, 2)))


@pytest.mark.parametrize("count", [np.nan, np.inf, -1.0])
def test_counts_that_are_none_are_refused(count):
    with pytest.raises(ArtifactCorruptError, match="counts"):
        make_market(np.array([0, 5, 9]), np.array([[1.0, count]]))


def test_it_begins_as_the_artifacts_landscape():
    land = Land(make_market(np.array([2**20, 2**20 + 2**14]), np.array([[1.0]])))
    assert cost_at(land, 2.0**30) == pytest.approx(2**20, rel=0.25)
    assert cost_at(land, 2.0**15) < 2**15 / 100
    assert (np.diff(land.costs, axis=1) >= 0).all()
    for bid in (5e5, 1e6, 2e6):
        base = market()
        assert rate_at(landscape(), bid) == pytest.approx(win_rate_at(bid, base.edges_cpm, base.win_rate[0]), abs=0.02)


@pytest.mark.parametrize("told", ["losses", "silence", "minimum to win"])
@pytest.mark.parametrize("scale", [0.1, 10.0])
@pytest.mark.parametrize("first", [False, True])
def test_it_finds_prices_ten_times_off_whatever_is_told(scale, told, first):
    land = landscape()
    rng = np.random.default_rng(1)
    for n in range(4_000):
        bid, price = (int(scale * 1e6 * np.exp(x)) for x in (rng.normal(0, 1), 0.5 * rng.normal()))
        place(land, f"t{n}", bid, first=first, at_ms=n * 1000)
        minimum = price if told == "minimum to win" else None
        if bid >= price:
            tell(land, WIN, f"t{n}", bid if first else price, minimum)
        elif told != "silence":
            tell(land, LOSS, f"t{n}", None, minimum)
        if n % 16 == 0:
            land.refresh(n * 1000)
    land.refresh(4_000_000 + SILENCE_MS)
    truth = landscape(scale * 1e6)
    for bid in (0.5, 1.0, 2.0):
        assert rate_at(land, bid * scale * 1e6) == pytest.approx(rate_at(truth, bid * scale * 1e6), abs=0.08)


def test_each_bid_teaches_once_and_strangers_nothing():
    land = landscape()
    before = land.costs
    land.heard([WIN, LOSS], ["nobody's", "nobody's"], [10, None], [None, None])
    land.refresh(2)
    assert land.costs is before
    place(land, "mine", 10**6)
    tell(land, WIN, "mine", 100)
    land.refresh(SILENCE_MS + 1)
    after = land.costs
    tell(land, WIN, "mine", 100)
    land.refresh(SILENCE_MS + 1)
    assert after is not before
    assert land.costs is after


def fifty(land, kind, bid=10**6, *, first=False, price=None, minimum=None):
    for n in range(50):
        place(land, str(n), bid, first=first)
        tell(land, kind, str(n), price, minimum)
    land.refresh(SILENCE_MS + 1)
    return land


def test_a_first_price_win_tells_only_that_the_price_was_not_above():
    before = cost_at(landscape(), 1e6)
    assert before < cost_at(fifty(landscape(), WIN, first=True, price=10**6), 1e6) < 1e6


@pytest.mark.parametrize(
    ("kind", "price", "minimum"),
    [
        (WIN, 0, None),
        (WIN, 10**6 + 1, None),
        (BILLING, 10**15, None),
        (WIN, None, 0),
        (WIN, None, 10**6 + 1),
        (LOSS, None, 10**6),
        (LOSS, None, 1),
    ],
)
def test_a_price_of_zero_or_above_the_bid_and_a_minimum_that_contradicts_the_notice_are_not_believed(
    kind, price, minimum
):
    odd = fifty(landscape(), kind, price=price, minimum=minimum)
    plain = fifty(landscape(), kind)
    np.testing.assert_array_equal(odd.prices.market.win_rate, plain.prices.market.win_rate)


@pytest.mark.parametrize("kind", [WIN, LOSS])
def test_a_minimum_to_win_is_the_price(kind):
    minimum = 700_000 if kind == WIN else 1_400_000
    land = landscape()
    for _ in range(20):
        fifty(land, kind, first=True, minimum=minimum)
    assert rate_at(land, minimum * 1.05) - rate_at(land, minimum * 0.95) > 0.3


def test_a_landscape_without_wins_bids_higher_and_stays_sound():
    land = landscape()
    for n in range(2_000):
        place(land, str(n), 10**6, first=True)
        tell(land, LOSS, str(n))
        if n % 100 == 0:
            land.refresh(2)
    land.refresh(2)
    edges, rates = land.prices.market
    assert np.isfinite(rates).all()
    assert (np.diff(rates, axis=1) >= 0).all()
    assert 0.0 < rate_at(land, 1e6) < 0.02
    row = rates[land.prices.row(KEY)]
    assert 2e6 < shade(8e6, 1.0, edges, row) <= 8e6


def test_one_auction_a_day_leans_on_what_was_known():
    land = landscape()
    before = rate_at(land, 1e6)
    for day in range(7):
        place(land, str(day), 10**6, at_ms=day * 86_400_000)
        land.refresh(day * 86_400_000)
    assert land.n_open == 1
    assert before - 0.15 < rate_at(land, 1e6) < before


def some_at(land, name, at_ms, n=200):
    """First-price bids of which one in four is told to have won; losses are silent."""
    for i in range(n):
        bid = 2 * 10**6 if i % 4 == 0 else 5 * 10**5
        place(land, f"{name} {i}", bid, first=True, at_ms=at_ms)
        if bid > 10**6:
            tell(land, WIN, f"{name} {i}")


@pytest.mark.parametrize("jump_ms", [-3 * 86_400_000, 3 * 86_400_000])
def test_a_clock_that_jumps_and_is_set_right_again_stops_no_learning(jump_ms):
    """Bids of moments that lie ahead of the clock stand before all others, and would keep them waiting for days."""
    land, now_ms = landscape(), 10 * 86_400_000
    land.refresh(now_ms)
    some_at(land, "jumped", now_ms + jump_ms)
    land.refresh(now_ms + jump_ms)
    land.refresh(now_ms)
    some_at(land, "right", now_ms)
    land.refresh(now_ms + SILENCE_MS + 1)
    land.refresh(now_ms + SILENCE_MS + 2)
    assert not land.n_open
    assert not land._n_waiting
    assert 200 <= land.keep().weight[0] <= 400
    assert np.isfinite(land.prices.market.win_rate).all()
    assert rate_at(land, 5e5) < 0.1 < rate_at(land, 2e6)


def test_a_million_a_second_within_one_moment_are_followed_up_to_a_bound_and_shade_stays_sound():
    land = landscape()
    for step in range(20):
        land.placed({f"{step} {n}": (KEY, 10**6, True, False, 1) for n in range(20_000)})
        land.refresh(1)
    assert land.n_open == MAX_OPEN
    land.refresh(SILENCE_MS + 1)
    edges, rates = land.prices.market
    assert 1e6 < shade(4e6, 1.0, edges, rates[land.prices.row(KEY)]) <= 4e6
    assert land.n_alarms == 0, "a guess that was wrong is no shift"


def test_wins_wait_for_the_silence_of_losses_unless_losses_are_told():
    land = landscape()
    for n in range(20):
        place(land, str(n), 10**6, first=True)
        tell(land, WIN, str(n))
    before = rate_at(land, 1e6)
    land.refresh(SILENCE_MS)
    assert rate_at(land, 1e6) == before
    place(land, "lost", 10**6, first=True)
    tell(land, LOSS, "lost")
    land.refresh(SILENCE_MS)
    assert rate_at(land, 1e6) > before


def test_open_bids_are_bounded_and_end_in_silence():
    land = landscape()
    land.placed({str(n): Open(KEY, 1, False, False, 1) for n in range(MAX_OPEN + 10)})
    assert land.n_open == MAX_OPEN
    land.refresh(SILENCE_MS)
    assert land.n_open == MAX_OPEN
    land.refresh(SILENCE_MS + 1)
    assert land.n_open == MAX_OPEN - FORGOTTEN_AT_ONCE, "bidding waits while bids are forgotten"
    for _ in range(MAX_OPEN // FORGOTTEN_AT_ONCE - 1):
        land.refresh(SILENCE_MS + 1)
    assert not land.n_open


def test_a_flood_of_bids_does_not_make_wins_look_more_frequent():
    """Wins are told at once, losses are silent; bids beyond the limit must not be forgotten as neither."""
    land = landscape()
    price = 10**6
    for n in range(3 * MAX_OPEN):
        bid = price * 2 if n % 4 == 0 else price // 2
        token = str(n)
        place(land, token, bid, first=True, at_ms=1)
        if bid >= price:
            tell(land, WIN, token)
    for _ in range(2 * MAX_OPEN // FORGOTTEN_AT_ONCE):
        land.refresh(SILENCE_MS + 1)
    assert rate_at(land, price // 2) < 0.1


def test_exchanges_of_the_artifact_have_their_own_prices_from_the_start():
    edges = np.array([10**5, 10**6, 10**7])
    base = make_market(edges, np.array([[50.0, 50.0], [100.0, 0.0], [0.0, 0.0]]))
    land = Land(base, {"": 0, "cheap": 1, "unseen": 2}, np.array([100.0, 100.0, 0.0]))
    assert rate_at(land, 10**6, ("cheap", "USD", "", 0)) > 0.65
    assert rate_at(land, 10**6, ("unseen", "USD", "", 0)) == rate_at(land, 10**6, ("other", "USD", "", 0))
    assert 0.4 < rate_at(land, 10**6, ("other", "USD", "", 0)) < 0.6


def test_floor_bands_are_octaves():
    assert [floor_band(floor) for floor in (-1, 0, 1, 2, 3, 4, 1023, 1024)] == [0, 0, 1, 2, 2, 3, 10, 11]
    assert len(EDGES_CPM) == 481
