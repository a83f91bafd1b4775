"""Recorded auctions run again: the same settings give the same bids, others a paired difference with its interval."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from headrace.decisions.erasure import Erasures
from headrace.decisions.reading import read_recording
from headrace.decisions.recorder import DecisionRecorder
from headrace.decisions.segments import segment_paths
from headrace.decisions.settings import DecisionsConfig
from headrace.errors import ConfigError, DataError
from headrace.kernels.price import Offers
from headrace.v1 import bidder_pb2 as pb
from headrace.v1 import campaigns_pb2
from headrace_training.regret.report import measure
from headrace_training.rerun.compare import compare
from headrace_training.rerun.parameters import read_parameters
from headrace_training.rerun.prices import prices_of
from headrace_training.rerun.purse import Purse
from headrace_training.rerun.run import Rerun
from headrace_training.rerun.traffic import traffic_of

HOUR_MS = 3_600_000
EVEN, ASAP = campaigns_pb2.PACING_PLAN_EVEN, campaigns_pb2.PACING_PLAN_ASAP


class Taste:
    """A predictor for whom each impression has a worth of its own, about four units a thousand."""

    def __init__(self, rng):
        self._rng = rng

    def offers(self, model, table, persons, candidates, time_ms):
        n = len(candidates.lines)
        probability = 4e-4 * np.exp(0.8 * self._rng.normal(size=n))
        return Offers(candidates.indptr, candidates.lines, probability), np.zeros(n, np.int32)


def prices_around(rng, n=None):
    return 4e6 * np.exp(0.6 * rng.normal(size=n))


@pytest.fixture
def market(tmp_path, make, factories):
    """Runs a day of auctions and records it; returns the folder."""
    folder = tmp_path / "decisions"
    rng = np.random.default_rng(3)
    edges = np.geomspace(1e5, 1e9, 65).astype(np.int64)
    counts = np.tile(np.histogram(prices_around(rng, 20_000), edges)[0].astype(float), (2, 1))
    artifact = dataclasses.replace(factories.make_artifact(), landscape_edges_cpm=edges, landscape_counts=counts)
    path = make.path(tmp_path, artifact, make.ledger())
    path.fund()
    path.engine.predict_with(Taste(rng))

    def run(n=240, first_price=False, tell_minimum=True, no_bid_rate=1.0, balance_micros=None, **fields):
        config = DecisionsConfig(no_bid_rate=no_bid_rate)
        recorder = DecisionRecorder(folder, config, Erasures(lambda _: (0, []), folder), lambda: path.now_ms)
        path.engine.record(recorder)
        path.create(**{"pacing_plan": ASAP} | fields)
        if balance_micros is not None:
            path.fund(entry_id="refund", amount_micros=balance_micros - 10**9)
        start = path.now_ms - 12 * HOUR_MS
        kind = pb.AUCTION_TYPE_FIRST_PRICE if first_price else pb.AUCTION_TYPE_SECOND_PRICE
        for i in range(n):
            path.now_ms = start + i * 24 * HOUR_MS // n
            offer = path.bid_one(auction_type=kind, time_ms=path.now_ms, bid_request_id=f"a{i}")
            price = int(prices_around(rng))
            if not offer.token:
                continue
            won = offer.bid_cpm_micros >= price
            told = {"minimum_to_win_cpm_micros": price} if tell_minimum else {}
            if won:
                told["price_cpm_micros"] = offer.bid_cpm_micros if first_price else price
            notice_type = pb.NOTICE_TYPE_BILLING if won else pb.NOTICE_TYPE_LOSS
            path.notify(pb.Notice(type=notice_type, token=offer.token, **told))
        recorder.close()
        return folder

    yield run
    path.close()


def rerun_as_it_was(folder):
    recording = read_recording(folder)
    rng = np.random.default_rng(0)
    traffic = traffic_of(recording, rng)
    return recording, Rerun(traffic, read_parameters(None)).play(traffic.prices.draw(rng))


def test_nothing_changed_bids_and_wins_as_it_was(market):
    recording, again = rerun_as_it_was(market())
    auctions, outcomes = recording.auctions, recording.outcomes
    assert again.bid_cpm.tolist() == auctions["bid_cpm"].tolist()
    assert again.won.tolist() == outcomes.won.tolist()
    assert again.spend_micros.sum() == pytest.approx(outcomes.price_cpm[outcomes.won].sum() / 1000)
    assert again.value_micros.sum() == pytest.approx(auctions["value_cpm"][outcomes.won].sum() / 1000, rel=1e-6)


def test_first_price_bids_are_shaded_with_prices_learned_anew(market):
    recording, again = rerun_as_it_was(market(first_price=True))
    solved = (recording.auctions["explored"] == 0) & (again.bid_cpm > 0)
    ratio = again.bid_cpm[solved] / recording.auctions["bid_cpm"][solved]
    assert np.median(np.abs(ratio - 1)) < 0.05
    assert again.won.mean() == pytest.approx(recording.outcomes.won.mean(), abs=0.05)


def test_a_paced_day_is_paced_again_as_it_was(market):
    recording, again = rerun_as_it_was(market(pacing_plan=EVEN, limits={"daily_micros": 200_000}))
    spent = recording.outcomes.price_cpm[recording.outcomes.won].sum() / 1000
    assert 150_000 < spent <= 200_000
    assert again.spend_micros.sum() == pytest.approx(spent, rel=0.02)
    assert (again.bid_cpm > 0).mean() == pytest.approx((recording.auctions["reason"] == 0).mean(), abs=0.02)


def test_a_lower_bid_spends_less_and_the_interval_says_so(market, tmp_path):
    folder = market(n=120)
    (tmp_path / "low.toml").write_text('[campaigns."*"]\nmultiplier = 0.2\n')
    found = compare(folder, tmp_path / "low.toml", draws=2)
    for name in ("value_micros", "spend_micros", "wins"):
        low, high = found["difference"][name]["interval"]
        assert low <= found["difference"][name]["estimate"] <= high < 0
        assert found["base"][name] == pytest.approx(found["recorded"][name], rel=1e-6)
    assert (found["known_price_share"], found["blocks"], found["currency"]) == (1.0, 24, "USD")
    assert found["warnings"] == []
    same = compare(folder, tmp_path / "low.toml", tmp_path / "low.toml", draws=1)
    assert same["difference"]["value_micros"] == {"estimate": 0.0, "interval": [0.0, 0.0]}


def test_what_is_not_known_of_prices_widens_the_interval(market, tmp_path):
    folder = market(n=120, tell_minimum=False)
    (tmp_path / "high.toml").write_text('[line_items."spring/line"]\naction_worth_micros = 100000000\n')
    found = compare(folder, tmp_path / "high.toml", draws=2)
    assert 0.1 < found["known_price_share"] < 1.0
    low, high = found["difference"]["wins"]["interval"]
    assert low < found["difference"]["wins"]["estimate"] < high
    assert found["base"]["wins"] == found["recorded"]["wins"]


def test_a_base_that_is_not_what_was_recorded_is_warned_of(headrace_train, market, tmp_path):
    folder = market(n=60, balance_micros=20_000)
    (tmp_path / "same.toml").write_text("")
    files = ["--parameters", tmp_path / "same.toml"]
    _, out, err = headrace_train("rerun", "--records", folder, "--draws", 1, *files, "--json")
    (warning,) = json.loads(out)["warnings"]
    assert "as it was, a rerun wins" in warning
    assert f"warning: {warning}\n" in err
    assert compare(folder, files[1], files[1], draws=1)["warnings"] == []


def test_shading_can_be_switched_off(market, tmp_path):
    folder = market(n=120, first_price=True)
    (tmp_path / "plain.toml").write_text("shade = false\n")
    found = compare(folder, tmp_path / "plain.toml", draws=1)
    assert found["difference"]["wins"]["estimate"] > 0
    assert found["difference"]["spend_micros"]["estimate"] > 0


def test_budgets_and_settings_of_a_file_are_in_force(market, tmp_path):
    folder = market(n=120)
    (tmp_path / "poor.toml").write_text(
        '[bidding]\nmax_bid_cpm_micros = 5000000\n[campaigns.spring]\ndaily_micros = 20000\npacing_plan = "even"\n'
    )
    found = compare(folder, tmp_path / "poor.toml", draws=1)
    assert 0 < found["changed"]["spend_micros"] <= 40_000  # the day of the recording spans two UTC days at most


def test_a_no_bid_stands_for_as_many_as_it_was_drawn_from(market):
    folder = market(
        no_bid_rate=0.2,
        lines=[
            campaigns_pb2.LineItem(
                line_item_id="line", item_ids=["i0"], action_worth_micros=10_000_000, max_bid_cpm_micros=1
            )
        ],
    )
    recording = read_recording(folder)
    assert set(recording.auctions["weight"]) <= {1.0, 5.0}
    traffic = traffic_of(recording, np.random.default_rng(0))
    assert len(traffic.rows) == recording.auctions["weight"].sum()
    assert (np.diff(traffic.time_ms) >= 0).all()


def test_value_is_the_same_in_a_rerun_the_records_and_the_regret_meter_where_a_premium_is_bid(market, tmp_path):
    promise = campaigns_pb2.Guarantee(daily_impressions=200, penalty_cpm_micros=20_000_000)
    line = campaigns_pb2.LineItem(
        line_item_id="line", item_ids=["i0"], action_worth_micros=10_000_000, guarantee=promise
    )
    folder = market(lines=[line])
    assert read_recording(folder).candidates["premium_cpm"].max() > 0
    (tmp_path / "same.toml").write_text("")
    found, (met,) = compare(folder, tmp_path / "same.toml", draws=1), measure(folder)["campaigns"]
    assert met["value_micros"] == pytest.approx(found["recorded"]["value_micros"])
    assert met["spend_micros"] == pytest.approx(found["recorded"]["spend_micros"])
    probable = sum(row["value_micros"] for row in (found["base"], found["changed"])) / 2
    assert probable == pytest.approx(met["value_micros"], rel=0.1)


def test_prices_lie_where_the_notices_leave_them(market):
    recording = read_recording(market(tell_minimum=False, first_price=True, n=200))
    prices = prices_of(recording)
    drawn = prices.draw(np.random.default_rng(0))
    won, bid = recording.outcomes.won, recording.auctions["bid_cpm"]
    assert not prices.known.any()
    assert (drawn[won] <= bid[won]).all()
    lost = recording.outcomes.lost
    assert (drawn[lost] > bid[lost]).all()
    assert len(np.unique(drawn[lost])) == lost.sum()


WRONG = {
    "unknown = 1": "unknown",
    "[campaigns.spring]\nmultiplier = -1.0": 'campaigns."spring": multiplier',
    "[campaigns.spring]\nmultiplier = 1.0\n[campaigns.summer]\nmultiplier = nan": 'campaigns."summer": multiplier',
    "[campaigns]\nspring = 5": 'campaigns."spring": Expected a table',
    '[line_items."a/b"]\nmultiplier = "much"': 'line_items."a/b".multiplier',
    '[bidding]\nmax_catch_up = "2"': "bidding.max_catch_up",
    "[campaigns.spring]\nmax_bid_cpm_micros = 1": "max_bid_cpm_micros",
    '[line_items."a/b"]\npaused = true': "paused",
    "[bidding]\nmax_catchup = 2": "max_catchup",
    "[bidding]\nmax_catch_up = 0.5": "max_catch_up",
    '[campaigns.spring]\npacing_plan = "slow"': "pacing_plan",
    "not toml": "cannot be read",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_file_of_parameters_names_what_is_wrong(tmp_path, text):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=WRONG[text]):
        read_parameters(tmp_path / "wrong.toml")


UNKNOWN = {
    "[campaigns.sprnig]\npaused = true": r"campaigns: got 'sprnig'.*did you mean spring\?",
    '[line_items."spring/lines"]\nmultiplier = 0.5': r"line_items: got 'spring/lines'.*did you mean spring/line\?",
    '[line_items."line"]\nmultiplier = 0.5': r"line_items: got 'line'.*(did you mean|known:) spring/line",
    "[campaigns.autumn]\npaused = true": r"campaigns: got 'autumn'.*known: spring$",
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_name_that_is_not_recorded_is_refused_in_either_file(market, tmp_path, text):
    folder = market(n=1)
    (tmp_path / "wrong.toml").write_text(text)
    (tmp_path / "all.toml").write_text('[campaigns."*"]\npaused = true\n[line_items."*"]\nmultiplier = 1.0')
    for files in (("wrong.toml",), ("all.toml", "wrong.toml")):
        with pytest.raises(ConfigError, match=rf"wrong\.toml: {UNKNOWN[text]}"):
            compare(folder, *(tmp_path / file for file in files), draws=1)


def test_wrong_options_and_records_are_refused(tmp_path):
    (tmp_path / "same.toml").write_text("")
    with pytest.raises(DataError, match="no decision records"):
        compare(tmp_path, tmp_path / "same.toml")
    for wrong in ({"block": "week"}, {"draws": 0}, {"seed": -1}):
        with pytest.raises(ConfigError):
            compare(tmp_path, tmp_path / "same.toml", **wrong)


def test_the_command_prints_one_object_or_a_table(headrace_train, market, tmp_path):
    folder = market(n=120)
    (tmp_path / "low.toml").write_text('[campaigns."*"]\nmultiplier = 0.5\n')
    options = ["rerun", "--records", str(folder), "--parameters", str(tmp_path / "low.toml"), "--draws", "1"]
    assert json.loads(headrace_train(*options, "--json")[1])["difference"]["wins"]["estimate"] < 0
    assert "spend_micros" in headrace_train(*options)[1]


@pytest.mark.parametrize("command", ["rerun", "regret"])
def test_damaged_files_are_named_in_the_text_as_in_the_object(headrace_train, market, tmp_path, command):
    folder = market(n=12)
    (segment,) = segment_paths(folder)
    with segment.open("ab") as file:
        file.write(b"torn")
    (tmp_path / "same.toml").write_text("")
    options = [command, "--records", str(folder), "--draws", "1"]
    options += ["--parameters", str(tmp_path / "same.toml")] if command == "rerun" else []
    assert json.loads(headrace_train(*options, "--json")[1])["torn_files"] == [segment.name]
    assert headrace_train(*options)[1].splitlines()[0].endswith(segment.name)


def test_a_purse_keeps_every_limit_and_begins_each_day_anew(make):
    purse = Purse()
    line = make.line_item(limits={"daily_micros": 5})
    purse.set_limits([make.campaign(lines=[line], limits={"lifetime_micros": 8}, time_zone="Europe/Berlin")])
    account = np.array([purse.account_number("acme/spring/line")])
    noon = make.noon_ms
    (token,), (reason,) = purse.reserve(account, np.array([4_000]), [""], noon)
    assert (reason, purse.spendable(account, noon).tolist()) == (0, [1])
    assert purse.reserve(account, np.array([2_000]), [""], noon)[0] == [None]
    purse.settle(token, 3_000)
    assert purse.spendable(account, noon).tolist() == [2]
    assert purse.spent_today(account, noon).tolist() == [3]
    tomorrow = noon + 11 * HOUR_MS  # midnight in Berlin
    assert purse.spendable(account, tomorrow).tolist() == [5]
    purse.spend_before("acme/spring", 4)
    assert purse.spendable(account, tomorrow).tolist() == [1]
