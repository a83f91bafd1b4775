"""A small share of first-price bids is drawn: repeatably, within bounds, counted, recorded, and judged."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.bidding.pricing.exploration import Exploration
from headrace.bidding.pricing.landscape import SILENCE_MS
from headrace.bidding.settings import BiddingConfig
from headrace.decisions.erasure import Erasures
from headrace.decisions.reading import read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.settings import DecisionsConfig
from headrace.kernels import drift, explore, price, winrate
from headrace.v1 import bidder_pb2 as pb

FIRST, SECOND = pb.AUCTION_TYPE_FIRST_PRICE, pb.AUCTION_TYPE_SECOND_PRICE
SHARE = 0.1


@pytest.fixture
def explorer(tmp_path, factories, make):
    """A path that draws one bid in ten."""
    made = make.path(tmp_path, factories.make_artifact(), make.ledger(), BiddingConfig(explore_share=SHARE))
    made.fund(amount_micros=10**12)
    made.create()
    yield made
    made.close()


def bids(path, n, kind=FIRST, **fields):
    """Bids on n requests of different ids."""
    return [path.bid_one(bid_request_id=f"auction {i}", auction_type=kind, **fields) for i in range(n)]


def drawn(path):
    return sum(n for n, _ in path.engine.counts.explored().values())


def test_the_share_is_drawn_by_the_requests_id_between_floor_and_value(explorer, make):
    floor = 1_000_000
    some = bids(explorer, 400, floor_cpm_micros=floor)
    n = drawn(explorer)
    assert 20 <= n <= 62  # 400 draws of one in ten, four standard deviations around
    usual = max({each.bid_cpm_micros for each in some}, key=[each.bid_cpm_micros for each in some].count)
    odd = {i: each.bid_cpm_micros for i, each in enumerate(some) if each.bid_cpm_micros != usual}
    assert len(odd) == n
    assert all(floor <= bid <= each.value_cpm_micros for bid, each in zip(odd.values(), some, strict=False))
    again = bids(explorer, 400, floor_cpm_micros=floor)
    assert {i: again[i].bid_cpm_micros for i in odd} == odd, "a replay draws the same"
    together = explorer.bid(
        *(
            make.bid_request(bid_request_id=f"auction {i}", auction_type=FIRST, floor_cpm_micros=floor)
            for i in range(400)
        )
    )
    assert {i: together[i].impressions[0].bid_cpm_micros for i in odd} == odd, "companions change nothing"


def test_second_price_bids_are_never_drawn(explorer):
    assert len({each.bid_cpm_micros for each in bids(explorer, 200, SECOND)}) == 1
    assert not drawn(explorer)


def test_no_share_draws_nothing(path):
    path.create()
    assert len({each.bid_cpm_micros for each in bids(path, 200)}) == 1
    assert not drawn(path)


def test_what_drawn_bids_give_up_is_counted_by_currency(explorer):
    assert explorer.engine.counts.explored() == {}
    bids(explorer, 300)
    ((currency, (n, micros)),) = explorer.engine.counts.explored().items()
    assert currency == "USD"
    best = max(each.value_cpm_micros for each in bids(explorer, 1))
    assert 0 < micros < n * best / 1000


def test_drawn_bids_judge_the_win_rates_they_were_made_with(explorer):
    some = bids(explorer, 300)
    for each in some:
        explorer.notify(pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=each.token))
    explorer.now_ms += SILENCE_MS + 2_000
    bids(explorer, 1)
    bands = explorer.engine.pacer.landscape.exploration.bands()
    assert [band.low for band in bands] == [0.0, 0.2, 0.4, 0.6, 0.8]
    assert sum(band.n for band in bands) == drawn(explorer)
    assert sum(band.wins for band in bands) == 0
    assert sum(band.expected for band in bands) > 3 * sum(band.error for band in bands), "it had expected to win some"


def test_records_say_which_bids_were_drawn(explorer, tmp_path):
    folder = tmp_path / "decisions"
    recorder = DecisionRecorder(folder, DecisionsConfig(), Erasures(lambda _: (0, []), folder), lambda: explorer.now_ms)
    explorer.engine.record(recorder)
    decided = bids(explorer, 200)
    recorder.close()
    auctions = read_recording(folder).auctions
    usual = max({each.bid_cpm_micros for each in decided}, key=[each.bid_cpm_micros for each in decided].count)
    np.testing.assert_array_equal(auctions["explored"] == 1, auctions["bid_cpm"] != usual)
    assert auctions["explored"].sum() == drawn(explorer) > 0


def test_an_unbiased_model_is_told_from_a_biased_one():
    rng = np.random.default_rng(0)
    rates = rng.random(20_000)
    won = rng.random(20_000) < rates
    fair, biased = Exploration(), Exploration()
    fair.judge(np.ones(20_000, bool), rates, won)
    biased.judge(np.ones(20_000, bool), np.minimum(rates * 1.1, 1.0), won)
    assert all(abs(band.wins - band.expected) < 4 * band.error for band in fair.bands())
    assert any(abs(band.wins - band.expected) > 4 * band.error for band in biased.bands())
    fair.judge(np.zeros(5, bool), rates[:5], won[:5])
    assert sum(band.n for band in fair.bands()) == 20_000


def test_the_first_drawn_bid_and_the_first_lesson_compile_nothing(explorer):
    kernels = (price.shade, price.win_rate_at, price.win_rates_at, explore.draw_bids, drift.watch, winrate.add_evidence)
    explorer.engine.warm(explorer.now_ms)
    before = [len(kernel.signatures) for kernel in kernels]
    for each in bids(explorer, 60):
        explorer.notify(pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=each.token))
    explorer.now_ms += SILENCE_MS + 2_000
    bids(explorer, 1)
    assert drawn(explorer)
    assert [len(kernel.signatures) for kernel in kernels] == before
