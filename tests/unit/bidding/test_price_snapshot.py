"""What bids taught of prices outlives the process and the artifact, and a file that is not whole is passed over."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from headrace.bidding.predict import BidModel
from headrace.bidding.pricing.landscape import Landscape, Open
from headrace.bidding.pricing.price import make_market
from headrace.bidding.pricing.snapshot import HALF_LIFE_MS, MAGIC, NAME, Snapshot
from headrace.bidding.pricing.winrate import KEPT_AUCTIONS, WinRates
from headrace.kernels.price import shade
from headrace.v1 import bidder_pb2 as pb

KEY = ("adx", "USD", "top", 0)
FIRST = pb.AUCTION_TYPE_FIRST_PRICE
DAY_MS = int(HALF_LIFE_MS)


def market(median=4e6):
    edges = np.unique(np.geomspace(1e4, 1e9, 65).astype(np.int64))
    prices = median * np.exp(0.5 * np.random.default_rng(0).standard_normal(10_000))
    return make_market(edges, np.histogram(prices, edges)[0].astype(float)[None])


def taught(n=4_000, key=KEY, land=None):
    """A landscape that has met prices around 1e6, where the artifact says 4e6."""
    land, rng = land or Landscape(market()), np.random.default_rng(1)
    for start in range(0, n, 200):
        prices, bids = 1e6 * np.exp(0.5 * rng.standard_normal(200)), 1e6 * np.exp(rng.standard_normal(200))
        tokens = [str(start + i) for i in range(200)]
        land.placed({token: Open(key, int(bid), True, False, 1) for token, bid in zip(tokens, bids, strict=True)})
        kinds = [pb.NOTICE_TYPE_WIN if won else pb.NOTICE_TYPE_LOSS for won in bids >= prices]
        land.heard(kinds, tokens, [None] * 200, [None] * 200)
        land.learn(land.gather(1))
    return land


def bids_of(land, key=KEY):
    edges, rates = land.prices.market
    return np.array([shade(value, 1.0, edges, rates[land.prices.row(key)]) for value in (1e6, 2e6, 4e6, 8e6)])


def restored(folder, now_ms=0, land=None):
    land = land or Landscape(market())
    found = Snapshot(folder).load(now_ms)
    assert found is not None
    land.restore(*found)
    return land


def settle(land, turns=40):
    """Let rows be fitted anew."""
    for _ in range(turns):
        land.learn([])
    return land


@pytest.fixture(scope="module")
def learned():
    return taught()


def test_a_process_that_is_killed_bids_on_as_before(tmp_path, learned):
    """The child learns, keeps what it learned, and is killed by SIGKILL while it writes once more."""
    code = (
        "import os, signal, sys; from pathlib import Path; from test_price_snapshot import taught, Snapshot\n"
        "land, snapshot = taught(), Snapshot(Path(sys.argv[1]))\n"
        "snapshot.save(land.keep(), 0)\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "snapshot.save(taught(200, land=land).keep(), 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=__file__.rpartition("/")[0], check=False)
    assert done.returncode == -signal.SIGKILL
    land = restored(tmp_path)
    np.testing.assert_allclose(bids_of(land), bids_of(learned), rtol=1e-6)
    np.testing.assert_allclose(bids_of(settle(land)), bids_of(learned), rtol=0.03)
    assert (np.abs(bids_of(land) / bids_of(Landscape(market())) - 1.0) > 0.2).any(), "the artifact alone bids otherwise"


def test_what_is_kept_is_of_bids_alone_and_comes_back_whole(tmp_path, learned):
    before = learned.keep()
    assert before.weight[0] == pytest.approx(4_000)
    Snapshot(tmp_path).save(before, 0)
    after = restored(tmp_path).keep()
    assert set(after.paths) == set(before.paths)
    for at, path in enumerate(before.paths):
        row = after.paths.index(path)
        for name in ("prices", "wins", "losses", "weight"):
            known = getattr(before, name)[at]
            np.testing.assert_allclose(getattr(after, name)[row], known, rtol=1e-6, atol=1e-6)


def test_what_is_older_counts_less_and_a_clock_that_was_ahead_does_no_harm(tmp_path, learned):
    Snapshot(tmp_path).save(learned.keep(), 10 * DAY_MS)
    weights = [restored(tmp_path, days * DAY_MS).keep().weight[0] for days in (0, 10, 11, 13)]
    assert weights == pytest.approx([4_000, 4_000, 2_000, 500])
    old = settle(restored(tmp_path, 10_000 * DAY_MS))
    fresh = settle(Landscape(market()))
    np.testing.assert_allclose(bids_of(old), bids_of(fresh), rtol=0.1)


def test_restoring_replaces_what_was_learned_and_keeps_the_counts(tmp_path, learned):
    """Who takes a ledger over goes on from what its owner knew; what both have kept counts once."""
    Snapshot(tmp_path).save(learned.keep(), 0)
    land = taught(1_000)
    land._rates.n_alarms = 3
    land.placed({"open": Open(KEY, 1, True, False, 1)})
    assert restored(tmp_path, land=land).keep().weight[0] == pytest.approx(4_000)
    assert (land.n_alarms, land.n_open) == (3, 1)


def damaged(raw):
    whole = len(raw)
    yield from (raw[:size] for size in (0, 5, len(MAGIC), len(MAGIC) + 20, whole // 2, whole - 1))
    yield from (raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :] for at in (3, len(MAGIC) + 3, whole // 2, whole - 1))
    yield raw + b"more"
    yield b"SQLite format 3\0" + raw


def test_a_torn_or_foreign_file_is_counted_and_said_and_bids_begin_as_the_artifact(tmp_path, learned, caplog):
    snapshot = Snapshot(tmp_path)
    assert snapshot.load(0) is None
    assert snapshot.n_refused == 0, "none at all is how everybody starts"
    snapshot.save(learned.keep(), 0)
    raw = (tmp_path / NAME).read_bytes()
    n = 0
    for wrong in damaged(raw):
        (tmp_path / NAME).write_bytes(wrong)
        with caplog.at_level(logging.WARNING, "headrace.bidding"):
            assert snapshot.load(0) is None
        n += 1
        assert snapshot.n_refused == n
        assert NAME in caplog.records[-1].message
    (tmp_path / NAME).unlink()
    (tmp_path / NAME).mkdir()
    assert snapshot.load(0) is None
    assert snapshot.n_refused == n + 1


@pytest.mark.parametrize("table", ["prices", "weight", "theta", "paths"])
def test_a_whole_file_of_what_is_no_evidence_is_refused(tmp_path, learned, table):
    kept, snapshot = learned.keep(), Snapshot(tmp_path)
    wrong = {
        "prices": np.full_like(kept.prices, -1.0),
        "weight": np.full_like(kept.weight, np.nan),
        "theta": np.zeros_like(kept.theta),
        "paths": [("adx", "USD"), *kept.paths[1:]],
    }
    snapshot.save(kept._replace(**{table: wrong[table]}), 0)
    assert snapshot.load(0) is None
    assert snapshot.n_refused == 1


def test_rows_for_which_there_is_no_room_are_left_the_best_known_first(learned):
    kept = learned.keep()
    many = [("adx", "USD", f"p{n}") for n in range(20)]
    wide = [np.concatenate([table, np.repeat(table[-1:], 20, axis=0)]) for table in kept[1:]]
    kept = type(kept)([*kept.paths, *many], *wide)
    kept.weight[-5:] *= 2.0
    rates = WinRates(6)
    rates.take(kept, 1.0)
    assert set(rates.prices.rows) >= {(), ("adx",), ("adx", "USD", "p15")}
    assert len(rates.prices.rows) == 6
    assert np.isfinite(rates.prices.market.win_rate).all()


def test_a_full_model_takes_megabytes_at_most(tmp_path, learned):
    kept = learned.keep()
    rng = np.random.default_rng(0)
    paths = [(), *(("adx", "USD", f"{n}") for n in range(1023))]
    rows = np.zeros(1024, int)
    full = type(kept)(paths, *(table[rows] for table in kept[1:]))
    full = full._replace(prices=rng.random(full.prices.shape), theta=full.theta + 1e-3 * rng.random((1024, 1)))
    Snapshot(tmp_path).save(full, 0)
    assert (tmp_path / NAME).stat().st_size < 20 << 20
    assert Snapshot(tmp_path).load(0) is not None


# -- another artifact


def test_another_artifact_replaces_its_landscape_and_nothing_of_what_bids_taught():
    land = taught()
    before, weight = bids_of(land), land.keep().weight[0]
    land.adopt(market(16e6), {"": 0, "new": 0}, np.array([1e6]))
    np.testing.assert_allclose(bids_of(land), before, rtol=1e-6)
    for _ in range(3):  # nothing adds up
        land.adopt(market(16e6), {}, np.array([1e6]))
    assert land.keep().weight[0] == pytest.approx(weight)
    np.testing.assert_allclose(bids_of(settle(land)), before, rtol=0.03)


def test_without_bids_another_artifact_is_all_there_is():
    land = Landscape(market())
    land.adopt(market(1e6), {}, np.array([1e6]))
    np.testing.assert_allclose(bids_of(settle(land)), bids_of(settle(Landscape(market(1e6)))), rtol=0.02)


def test_a_row_that_gave_up_gives_up_of_the_artifacts_part_too():
    land = taught()
    rates = land._rates
    rates._give_up(np.arange(len(rates._evidence.weight)) < 2)
    assert rates._evidence.weight[0] == pytest.approx(KEPT_AUCTIONS)
    kept = land.keep()
    assert 0.0 < kept.weight[0] < KEPT_AUCTIONS
    assert (kept.prices >= 0).all()


def test_bids_that_are_out_while_the_artifact_changes_still_teach(path, make):
    path.campaigns.create(make.campaign(), "tester")
    bids = [path.bid_one(auction_type=FIRST) for _ in range(40)]
    model = BidModel.of(path.artifact)
    landscape = path.engine.pacer.landscape
    path.engine.set_model(replace(model, version="next"), path.engine._view.people, path.artifact.item_ids.find)
    assert path.engine.pacer.landscape is landscape
    assert landscape.n_open == 40
    for bid in bids:
        told = pb.Notice(type=pb.NOTICE_TYPE_LOSS, token=bid.token, minimum_to_win_cpm_micros=2 * bid.bid_cpm_micros)
        path.notify(told)
    path.now_ms += 2_000
    path.bid_one(auction_type=FIRST)
    assert landscape.keep().weight[0] == pytest.approx(40)
    assert landscape.keep().prices[0].sum() == pytest.approx(40)


# -- notices that come another way


def test_a_minimum_that_comes_through_another_process_counts_as_one_told_here(path, make):
    """The authority passes settled notices on; `learn` is what hears of them."""
    path.campaigns.create(make.campaign(), "tester")
    bid = path.bid_one(auction_type=FIRST)
    minimum = bid.bid_cpm_micros // 2
    path.engine.learn([pb.NOTICE_TYPE_WIN], [bid.token], [bid.bid_cpm_micros], [minimum])
    (outcome,) = path.engine.pacer.landscape._waiting["adx"].outcomes
    assert (outcome.kind, outcome.amount) == (0, minimum)


def test_a_notice_for_a_bid_that_was_forgotten_is_counted_and_teaches_nothing(path, make):
    path.campaigns.create(make.campaign(), "tester")
    land = path.engine.pacer.landscape
    bid = path.bid_one(auction_type=FIRST)
    path.engine.learn([pb.NOTICE_TYPE_WIN], [bid.token], [bid.bid_cpm_micros], [1])
    path.engine.learn([pb.NOTICE_TYPE_BILLING], [bid.token], [bid.bid_cpm_micros], [1])
    assert land.n_strange == 0, "the bill of a win is nothing new"
    path.engine.learn([pb.NOTICE_TYPE_WIN, pb.NOTICE_TYPE_LOSS], ["another", "life's"], [1, None], [1, 2])
    assert land.n_strange == 2
    assert len(land._waiting["adx"].outcomes) == 1
