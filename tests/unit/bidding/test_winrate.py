"""Rows of the win-rate model: who gets one, what it leans on, and what it gives up when prices move."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.pricing.winrate import KEPT_AUCTIONS, LEAST_ASKED, REMEMBERED_AUCTIONS, Told, WinRates
from headrace.kernels.drift import OUTCOMES_PER_FALSE_ALARM
from headrace.kernels.price import shade, win_rate_at
from headrace.kernels.winrate import LOSS, PRICE, WIN


class Market:
    """A first-price exchange: prices log-normal around a median by placement."""

    def __init__(self, rates, seed=0):
        self.rates, self.rng = rates, np.random.default_rng(seed)

    def hold(self, key, median, n, *, told=False, spread=0.5, refresh_every=50):
        """n auctions with bids of all sizes; returns how many alarms there were."""
        before = self.rates.n_alarms
        for start in range(0, n, refresh_every):
            size = min(refresh_every, n - start)
            prices = median * np.exp(spread * self.rng.standard_normal(size))
            bids = median * np.exp(self.rng.standard_normal(size))
            kinds = np.full(size, PRICE) if told else np.where(bids >= prices, WIN, LOSS)
            amounts = prices if told else bids
            self.rates.learn(Told([key] * size, kinds.tolist(), amounts.tolist(), bids.tolist()))
            self.rates.refresh()
        return self.rates.n_alarms - before

    def rate(self, key, bid):
        prices = self.rates.prices
        return win_rate_at(float(bid), prices.market.edges_cpm, prices.market.win_rate[prices.row(key)])


def key(exchange="adx", placement="top", band=0, currency="USD"):
    return exchange, currency, placement, band


def test_an_exchange_gets_a_row_at_once_a_placement_and_a_floor_after_some_outcomes():
    market = Market(WinRates(8))
    market.hold(key(), 1e6, LEAST_ASKED - 1)
    assert list(market.rates.prices.rows) == [(), ("adx",)]
    market.hold(key(), 1e6, 1)
    assert list(market.rates.prices.rows) == [(), ("adx",), ("adx", "USD", "top"), key()]
    assert market.rates.prices.row(key(band=7)) == market.rates.prices.rows["adx", "USD", "top"]
    assert market.rates.prices.row(key(placement="new")) == market.rates.prices.rows["adx",]
    assert market.rates.prices.row(key("new")) == 0


def test_a_new_placement_leans_on_its_exchange_and_leaves_it_with_evidence():
    market = Market(WinRates(32))
    for placement in "abcd":
        market.hold(key(placement=placement), 1e6, 2_000)
    market.hold(key("dear", "x"), 16e6, 2_000)
    assert market.rate(key(placement="new"), 1e6) == pytest.approx(0.5, abs=0.05)
    assert market.rate(key("dear", "new"), 1e6) < 0.1
    market.hold(key(placement="new"), 8e6, LEAST_ASKED)
    few = market.rate(key(placement="new"), 1e6)
    assert 0.02 < few < 0.5
    market.hold(key(placement="new"), 8e6, 1_000)
    assert market.rate(key(placement="new"), 1e6) < 0.05
    assert market.rate(key(placement="new"), 8e6) == pytest.approx(0.5, abs=0.08)
    assert market.rate(key(placement="a"), 1e6) == pytest.approx(0.5, abs=0.05)


def test_currencies_of_one_exchange_are_not_mixed():
    market = Market(WinRates(32))
    market.hold(key(), 1e6, 2_000)
    market.hold(key(currency="JPY"), 150e6, 2_000)
    assert market.rate(key(), 1e6) == pytest.approx(0.5, abs=0.08)
    assert market.rate(key(currency="JPY"), 150e6) == pytest.approx(0.5, abs=0.08)


def test_memory_is_bounded_and_rows_go_to_those_asked_for_most():
    rates = WinRates(12)
    market = Market(rates)
    for placement in range(30):
        market.hold(key(placement=f"rare {placement}"), 1e6, LEAST_ASKED + 1)
    assert len(rates.prices.rows) == 12
    for _ in range(6):
        market.hold(key(placement="often"), 4e6, 200)
    assert key(placement="often") in rates.prices.rows
    assert len(rates.prices.rows) == 12
    assert len(set(rates.prices.rows.values())) == 12
    assert market.rate(key(placement="often"), 4e6) == pytest.approx(0.5, abs=0.1)


def test_prices_in_use_are_not_changed_by_what_is_learned_later():
    rates = WinRates(8)
    market = Market(rates)
    market.hold(key(), 1e6, 100)
    before = rates.prices
    kept = before.market.win_rate.copy(), dict(before.rows)
    market.hold(key(placement="other"), 9e6, 300)
    np.testing.assert_array_equal(before.market.win_rate, kept[0])
    assert dict(before.rows) == kept[1]
    assert rates.prices is not before


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_doubled_or_halved_prices_are_found_soon_and_learned_anew(factor):
    market = Market(WinRates(8), seed=3)
    market.hold(key(), 1e6, 20_000)
    assert market.rates.n_alarms == 0
    assert market.hold(key(), factor * 1e6, 300) > 0
    market.hold(key(), factor * 1e6, 700)
    assert market.rate(key(), factor * 1e6) == pytest.approx(0.5, abs=0.08)


def test_a_shift_on_one_exchange_leaves_the_others_what_they_know():
    market = Market(WinRates(16), seed=4)
    for _ in range(20):
        for name in ("moves", "stays"):
            market.hold(key(name), 1e6, 250)
    weight = market.rates._evidence.weight
    rows = market.rates.prices.rows
    stays = weight[rows["stays",]]
    market.hold(key("moves"), 8e6, 150)
    assert weight[rows["moves",]] < 200 + KEPT_AUCTIONS
    assert weight[rows[key("moves")]] < 200 + KEPT_AUCTIONS
    assert weight[rows["stays",]] == stays


def test_alarms_are_not_false_more_often_than_stated():
    market = Market(WinRates(8), seed=5)
    n = OUTCOMES_PER_FALSE_ALARM // 2
    assert market.hold(key(), 1e6, n, refresh_every=1_000) <= 4


def test_a_step_of_many_outcomes_at_once_is_no_alarm_while_rows_are_young():
    """Predictions of a step are of one fit: rows learn of none of it before its end."""
    rates, rng = WinRates(64), np.random.default_rng(6)
    medians = 1e6 * np.exp(rng.standard_normal(20))
    for _ in range(8):
        of = rng.integers(0, 20, 5_000)
        prices = medians[of] * np.exp(0.5 * rng.standard_normal(5_000))
        bids = medians[of] * np.exp(rng.standard_normal(5_000))
        kinds = np.where(bids >= prices, WIN, LOSS).tolist()
        rates.learn(Told([key(placement=f"p{place}") for place in of.tolist()], kinds, bids.tolist(), bids.tolist()))
        rates.refresh()
    assert rates.n_alarms == 0


def test_where_many_ask_the_same_price_the_curve_jumps_and_elsewhere_it_does_not():
    rates, rng = WinRates(8), np.random.default_rng(7)
    smooth = Market(WinRates(8), seed=7)
    for _ in range(20):
        prices = np.where(rng.random(500) < 0.4, 1e6, 1e6 * np.exp(0.5 * rng.standard_normal(500)))
        bids = 1e6 * np.exp(0.5 * rng.standard_normal(500))
        kinds = np.where(bids >= prices, WIN, LOSS).tolist()
        rates.learn(Told([key()] * 500, kinds, bids.tolist(), bids.tolist()))
        rates.refresh()
    smooth.hold(key(), 1e6, 10_000, refresh_every=500)

    def rise(of):
        prices = of.prices
        row = prices.row(key())
        low, high = (win_rate_at(bid, prices.market.edges_cpm, prices.market.win_rate[row]) for bid in (0.96e6, 1.05e6))
        return high - low

    assert rise(rates) > 0.3  # 0.4 in truth
    assert rise(smooth.rates) < 0.1  # 0.07 in truth


def test_old_evidence_fades():
    market = Market(WinRates(8))
    market.hold(key(), 1e6, int(1.5 * REMEMBERED_AUCTIONS), refresh_every=2_000)
    assert (market.rates._evidence.weight <= REMEMBERED_AUCTIONS).all()


def test_told_prices_teach_more_than_wins_and_losses():
    told, untold = Market(WinRates(8)), Market(WinRates(8))
    told.hold(key(), 1e6, 400, told=True)
    untold.hold(key(), 1e6, 400)
    bids = (0.5e6, 1e6, 2e6)
    truth = (0.0828, 0.5, 0.9172)  # the normal's share below log(bid / 1e6) / 0.5

    def error(market):
        return max(abs(market.rate(key(), bid) - share) for bid, share in zip(bids, truth, strict=True))

    assert error(told) < 0.06
    assert error(untold) < 0.12


@pytest.mark.parametrize("amounts", [1e-300, 1.0, 1e300])
def test_prices_beyond_all_bins_belong_to_the_end_bins(amounts):
    rates = WinRates(8)
    rates.learn(Told([key()] * 100, [PRICE] * 100, [amounts] * 100, [1e6] * 100))
    rates.refresh()
    edges, table = rates.prices.market
    assert np.isfinite(table).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert 1e5 <= shade(1e6, 1e5, edges, table[rates.prices.row(key())]) <= 1e6
