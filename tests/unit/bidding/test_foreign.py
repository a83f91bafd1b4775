"""Requests in other currencies: converted at a dated rate, frozen in the token, refused once the rate is stale."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from headrace.bidding.engine import BiddingEngine
from headrace.bidding.foreign import bid_abroad
from headrace.errors import ConfigError
from headrace.events.store import Store
from headrace.ledger.ledger import Ledger
from headrace.ledger.notices import MAX_CPM_MICROS
from headrace.ledger.rates import Rates, read_rates
from headrace.ledger.tokens import TokenKeys
from headrace.v1 import bidder_pb2 as pb

HOUR = 3_600_000
ACCEPTED, DISPUTED = pb.NOTICE_OUTCOME_ACCEPTED, pb.NOTICE_OUTCOME_DISPUTED


def rates_file(folder: Path, as_of_ms: int, text: str = 'EURUSD = "1.25"') -> Path:
    path, fresh = folder / "rates.toml", folder / "rates.new"
    as_of = datetime.fromtimestamp(as_of_ms / 1000, UTC).isoformat()
    fresh.write_text(f"as_of = {as_of}\n[rates]\n{text}\n")
    os.replace(fresh, path)
    return path


@pytest.fixture
def abroad(tmp_path, factories, make):
    """A path on a real ledger whose campaigns pay in dollars, with a rate of the hour before."""
    store = Store(tmp_path / "ledger" / "money.db")
    ledger = Ledger(tmp_path / "ledger", store, clock_ms=lambda: make.noon_ms)
    assert ledger.try_acquire()
    path = make.path(tmp_path, factories.make_artifact(), ledger)
    path.fund()
    path.create()
    path.engine.rates = Rates(rates_file(tmp_path, make.noon_ms - HOUR), 24 * HOUR)
    yield path
    ledger.close()
    store.close()
    path.close()


def line(path):
    path.ledger.flush()
    path.ledger.check_invariant()
    return next(state for state in path.ledger.accounts() if state.account_id == "acme/spring/line")


def test_a_bid_in_euros_costs_dollars_at_the_frozen_rate(abroad, tmp_path):
    dollars, euros = abroad.bid_one(), abroad.bid_one(currency="EUR")
    assert euros.bid_cpm_micros == dollars.bid_cpm_micros * 100 // 125
    bodies, _, _ = TokenKeys(tmp_path / "ledger" / "ledger.keys").verify([euros.token])
    assert (bodies["rate"][0], bodies["cpm"][0], bodies["currency"][0]) == (1_250_000, dollars.bid_cpm_micros, b"USD")
    (outcome,) = abroad.notify(
        pb.Notice(type="NOTICE_TYPE_BILLING", token=euros.token, price_cpm_micros=euros.bid_cpm_micros)
    )
    assert outcome == ACCEPTED
    assert line(abroad).billed_micros <= -(-dollars.bid_cpm_micros // 1000)
    assert line(abroad).billed_micros >= -(-euros.bid_cpm_micros * 125 // 100_000) - 1
    other = abroad.bid_one(currency="EUR")
    above = pb.Notice(type="NOTICE_TYPE_BILLING", token=other.token, price_cpm_micros=other.bid_cpm_micros + 2)
    assert abroad.notify(above) == [DISPUTED]


def test_the_floor_is_in_the_requests_currency(abroad):
    most = abroad.bid_one(currency="EUR").bid_cpm_micros
    assert abroad.bid_one(currency="EUR", floor_cpm_micros=most).bid_cpm_micros >= most
    assert not abroad.bid_one(currency="EUR", floor_cpm_micros=most * 200).token


def test_a_currency_worth_next_to_nothing_holds_no_money(abroad, tmp_path, make):
    abroad.engine.rates = Rates(rates_file(tmp_path, make.noon_ms, 'XAAUSD = "0.000001"'), 24 * HOUR)
    value = 10**13  # in that currency, above what 64 bits hold
    abroad.engine.bid = lambda requests: bid_abroad(
        requests,
        requests.words,
        abroad.engine._view.board,
        abroad.engine.rates,
        lambda inside: replace(BiddingEngine.bid(abroad.engine, inside), value_cpm=np.array([value], np.int64)),
        abroad.engine.take_back,
    )
    bid = abroad.bid_one(currency="XAA")
    assert 0 < bid.bid_cpm_micros <= MAX_CPM_MICROS


def test_batches_of_several_currencies(abroad, make):
    requests = [make.bid_request(currency=name) for name in ("EUR", "USD", "JPY", "")]
    answers = [answer.impressions[0] for answer in abroad.bid(*requests)]
    assert [bool(answer.token) for answer in answers] == [True, True, False, True]
    assert answers[0].bid_cpm_micros < answers[1].bid_cpm_micros == answers[3].bid_cpm_micros
    assert answers[2].no_bid_reason == pb.NO_BID_REASON_CURRENCY


@pytest.mark.parametrize("age_ms", [24 * HOUR + 1, -2 * HOUR])
def test_stale_rates_mean_no_bid_and_the_log_says_so(abroad, tmp_path, make, caplog, age_ms):
    abroad.engine.rates = Rates(rates_file(tmp_path, make.noon_ms - age_ms), 24 * HOUR)
    with caplog.at_level(logging.WARNING, "headrace.rates"):
        assert abroad.bid_one(currency="EUR").no_bid_reason == pb.NO_BID_REASON_CURRENCY
        assert abroad.bid_one(currency="EUR").no_bid_reason == pb.NO_BID_REASON_CURRENCY
    assert len(caplog.records) == 1, "once a minute"
    assert abroad.bid_one().token
    assert line(abroad).reserved_micros > 0


def test_a_bid_keeps_its_rate_when_the_file_is_replaced(abroad, tmp_path, make):
    before = abroad.bid_one(currency="EUR")
    rates_file(tmp_path, make.noon_ms - HOUR, 'EURUSD = "2.5"')
    abroad.now_ms += 2_000
    after = abroad.bid_one(currency="EUR")
    assert after.bid_cpm_micros == before.bid_cpm_micros // 2
    price = before.bid_cpm_micros
    assert abroad.notify(pb.Notice(type="NOTICE_TYPE_BILLING", token=before.token, price_cpm_micros=price)) == [
        ACCEPTED
    ]


def test_a_file_that_breaks_leaves_the_last_one_until_it_is_stale(abroad, tmp_path, make, caplog):
    assert abroad.bid_one(currency="EUR").token
    rates_file(tmp_path, make.noon_ms, 'EURUSD = "NaN"')
    abroad.now_ms += 2_000
    with caplog.at_level(logging.ERROR, "headrace.rates"):
        assert abroad.bid_one(currency="EUR").token
    assert "stay until they are stale" in caplog.text


def test_no_file_no_rates(path):
    path.create()
    assert path.bid_one(currency="EUR").no_bid_reason == pb.NO_BID_REASON_CURRENCY


@pytest.mark.parametrize(
    "text",
    ['EURUSD = "0"', 'EURUSD = "-1"', "EURUSD = 1.25", 'eurusd = "1"', 'EURUSD = "inf"', 'EUR = "1"', "[", 'a = "b"'],
)
def test_rates_that_are_none_are_refused(tmp_path, text):
    with pytest.raises(ConfigError, match="rates_file"):
        read_rates(rates_file(tmp_path, 0, text))


def test_the_other_way_round_follows_rounded_up(tmp_path):
    table = read_rates(rates_file(tmp_path, 1_000, 'EURUSD = "1.1"\nUSDJPY = "150.0000001"'))
    assert table.as_of_ms == 1_000
    assert table.micros["EUR", "USD"] == 1_100_000
    assert table.micros["USD", "EUR"] == 909_091
    assert table.micros["USD", "JPY"] == 150_000_001


def test_a_minimum_to_win_beyond_all_prices_is_learned_as_the_highest(abroad, tmp_path, make):
    abroad.engine.rates = Rates(rates_file(tmp_path, make.noon_ms, 'XAAUSD = "500000"'), 24 * HOUR)
    heard = []
    abroad.engine.pacer.landscape.heard = lambda *said: heard.append(said)
    token = abroad.bid_one(currency="XAA").token
    (outcome,) = abroad.notify(
        pb.Notice(type="NOTICE_TYPE_LOSS", token=token, minimum_to_win_cpm_micros=10**16)  # what a notice may say
    )
    assert outcome == ACCEPTED
    assert list(heard[0][3]) == [MAX_CPM_MICROS], "records of decisions keep 64 bits"
