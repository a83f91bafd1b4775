"""The contract of `headrace-train replay`, clause by clause, computed by hand."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace_training.replay.info import MAX_BID
from headrace_training.replay.log import read_log
from headrace_training.replay.oracle import oracle_value
from headrace_training.replay.play import Rules, play
from headrace_training.replay.strategies.base import NO_BID, UNSEEN

LOG = "1 10 0.5\n0 20 0.4 adx\n\n1\t5  0.2\n0 300 0.9\n0 7 0.3\n"
CPM_10 = {"cost_train": 100, "imp_train": 10}


class Scripted:
    """Bids what a list says and keeps what it was told."""

    def __init__(self, *bids: int) -> None:
        self.bids = iter(bids)
        self.asked: list[tuple[float, int, int, int]] = []
        self.heard: list[tuple[bool, int, int]] = []
        self.begun = 0

    def begin(self) -> None:
        self.begun += 1

    def bid(self, value: float, exchange: int, left: int, n_left: int) -> int:
        self.asked.append((value, exchange, left, n_left))
        return next(self.bids)

    def learn(self, bid: int, won: bool, price: int, click: int) -> None:
        self.heard.append((won, price, click))


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    path = tmp_path / "log.txt"
    path.write_text(LOG)
    return path


@pytest.fixture
def run(headrace_train: Any, tmp_path: Path, log_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs the command and gives exit code, stdout and stderr."""
    info = tmp_path / "info.json"
    info.write_text(json.dumps(CPM_10))

    def run(*arguments: str, info: Path | None = info, log: Path = log_path) -> tuple[int, str, str]:
        given = ["--log", str(log), "--fractions", "1/2", *arguments]
        given += ["--info", str(info)] if info else []
        ran: tuple[int, str, str] = headrace_train("replay", *given)
        return ran

    return run


def outcome(path: Path, rules: Rules, *bids: int) -> tuple[Scripted, dict[str, list[float]]]:
    strategy = Scripted(*bids)
    found = play(read_log(path), strategy, rules)
    return strategy, {
        name: getattr(found, name).tolist() for name in ("bids", "impressions", "clicks", "cost", "value")
    }


def test_a_line_is_click_price_value_and_perhaps_an_exchange(log_path: Path) -> None:
    log = read_log(log_path)
    assert log.clicks.tolist() == [1, 0, 1, 0, 0]
    assert log.prices.tolist() == [10, 20, 5, 300, 7]
    assert log.values.tolist() == [0.5, 0.4, 0.2, 0.9, 0.3]
    assert [log.exchanges[place] for place in log.exchange] == ["", "adx", "", "", ""]


def test_gz_is_read_as_it_is(tmp_path: Path, log_path: Path) -> None:
    packed = tmp_path / "log.txt.gz"
    packed.write_bytes(gzip.compress(LOG.encode()))
    assert read_log(packed).prices.tolist() == read_log(log_path).prices.tolist()


def test_ties_win_and_the_market_price_is_paid(log_path: Path) -> None:
    _, found = outcome(log_path, Rules(400, 5), 10, 19, 300, 300, NO_BID)
    assert found["impressions"] == [3]
    assert found["cost"] == [10 + 5 + 300]
    assert found["clicks"] == [2]
    assert found["value"] == [pytest.approx(0.5 + 0.2 + 0.9)]
    assert found["bids"] == [4]


def test_first_price_pays_the_bid(log_path: Path) -> None:
    _, found = outcome(log_path, Rules(400, 5, first_price=True), 12, 19, 6, 300, NO_BID)
    assert found["cost"] == [12 + 6 + 300]


def test_a_bid_above_300_loses(log_path: Path) -> None:
    _, found = outcome(log_path, Rules(1000, 5), 301, 301, 301, 301, 300)
    assert found["impressions"] == [1]
    assert MAX_BID == 300


def test_a_price_above_what_is_left_loses(log_path: Path) -> None:
    strategy, found = outcome(log_path, Rules(15, 5), 300, 300, 300, 300, 300)
    assert [asked[2] for asked in strategy.asked] == [15, 5, 5, 0, 0]
    assert (found["impressions"], found["cost"]) == ([2], [15])
    # at first price what is paid, the bid, must be left
    _, found = outcome(log_path, Rules(15, 5, first_price=True), 16, NO_BID, 15, NO_BID, 0)
    assert (found["impressions"], found["cost"]) == ([1], [15])


def test_full_feedback_tells_the_price_after_each_auction(log_path: Path) -> None:
    strategy, _ = outcome(log_path, Rules(400, 5), 10, 19, 4, 300, NO_BID)
    assert strategy.heard == [
        (True, 10, 1),
        (False, 20, UNSEEN),
        (False, 5, UNSEEN),
        (True, 300, 0),
        (False, 7, UNSEEN),
    ]


def test_censored_feedback_tells_prices_of_auctions_won_and_clicks_of_none_lost(log_path: Path) -> None:
    strategy, _ = outcome(log_path, Rules(400, 5, censored=True), 10, 19, 4, 300, NO_BID)
    lost = (False, UNSEEN, UNSEEN)
    assert strategy.heard == [(True, 10, 1), lost, lost, (True, 300, 0), lost]


def test_unspent_budget_is_lost_and_a_short_tail_is_left_out(log_path: Path) -> None:
    strategy, found = outcome(log_path, Rules(20, 2), 9, 19, 5, 299)
    assert strategy.begun == 2
    assert [asked[2:] for asked in strategy.asked] == [(20, 2), (20, 1), (20, 2), (15, 1)]
    assert found["cost"] == [0, 5]


def test_the_oracle_is_the_fractional_knapsack(log_path: Path) -> None:
    log = read_log(log_path)
    # value / price: .05, .02, .04, .003, .0429; 10 + 7 + 5 bought whole, 10 of 20 for the next
    assert oracle_value(log.values, log.prices, 32) == pytest.approx(0.5 + 0.3 + 0.2 + 0.4 / 2)
    assert oracle_value(log.values, log.prices, 5) == pytest.approx(0.5 / 2)
    assert oracle_value(log.values, log.prices, 10_000) == pytest.approx(2.3)
    assert oracle_value(np.array([0.7, 0.1]), np.array([0, 3], np.int32), 0) == pytest.approx(0.7)


def test_the_budget_is_the_floor_of_cpm_fraction_and_episode(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    info = tmp_path / "third.json"
    info.write_text(json.dumps({"cost_train": 100, "imp_train": 3, "clk_train": 1, "price_counter_train": [0, 1]}))
    code, out, _ = run("--episode", "2", "--fractions", "1/32,0.5,1", "--json", info=info)
    found = json.loads(out)
    assert code == 0
    assert (found["episodes"], found["dropped"]) == (2, 1)
    # 100 / 3 / 32 * 2 = 2.08, 33.3, 66.7
    assert [row["budget"] for row in found["results"]] == [2 * 2, 2 * 33, 2 * 66]
    assert [row["fraction"] for row in found["results"]] == [1 / 32, 0.5, 1]


def test_the_budget_follows_from_a_historys_mean_price(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    history = tmp_path / "history.txt"
    history.write_text("0 10 0.1\n0 31 0.1\n")
    code, out, _ = run("--history", str(history), "--json", info=None)
    assert code == 0
    # without --episode the log is one episode: floor(20.5 / 2 * 5)
    assert [row["budget"] for row in json.loads(out)["results"]] == [51]


def test_the_report_has_these_fields_and_sums(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--strategy", "constant", "--episode", "5", "--json")
    assert code == 0
    found = json.loads(out)
    row = found["results"][0]
    assert list(found) == ["strategy", "feedback", "auction", "seed", "episodes", "dropped", "results", "warnings"]
    assert list(row)[:10] == [
        *("fraction", "bids", "impressions", "clicks", "cost", "budget"),
        *("value_won", "value_oracle", "share_of_oracle", "delivered"),
    ]
    assert found["strategy"] == "constant"
    assert row["budget"] == 25
    assert row["share_of_oracle"] == pytest.approx(row["value_won"] / row["value_oracle"])
    assert row["delivered"] == pytest.approx(row["cost"] / 25)
    # .5 for 10, .3 for 7, .2 for 5, 3 of 20 for .4
    assert row["value_oracle"] == pytest.approx(1.0 + 0.4 * 3 / 20)


def test_lines_for_people_say_the_same(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run()
    assert code == 0
    assert "of the oracle's value" in out


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1 10", "words: got 2"),
        ("1 10 0.5 adx 7", "words: got 5"),
        ("2 10 0.5", "click: got '2'"),
        ("-1 10 0.5", "click: got '-1'"),
        ("1 -10 0.5", "market_price: got '-10'"),
        ("1 10.5 0.5", "market_price: got '10.5'"),
        ("1 1_0 0.5", "market_price: got '1_0'"),
        ("1 99999999999 0.5", "market_price"),
        ("1 10 nan", "predicted_value: got 'nan'"),
        ("1 10 inf", "predicted_value: got 'inf'"),
        ("1 10 -0.1", "predicted_value: got '-0.1'"),
        ("1 10 1_0", "predicted_value: got '1_0'"),
        ("1 10 x", "predicted_value: got 'x'"),
        ("1 10 \udcff", "predicted_value|line 2"),
    ],
)
def test_a_malformed_line_is_an_error_that_names_it(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, line: str, what: str
) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"1 10 0.5\n" + line.encode(errors="surrogateescape") + b"\n")
    for code, out, err in (run("--json", log=bad), run("--json", "--history", str(bad), info=None)):
        assert (code, out) == (2, "")
        assert f"{bad}, line 2" in err
        assert any(part in err for part in what.split("|"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--fractions", "0"), "--fractions"),
        (("--fractions", "1/0"), "--fractions"),
        (("--fractions", "a"), "--fractions"),
        (("--fractions", "inf"), "--fractions"),
        (("--fractions", ""), "--fractions"),
        (("--episode", "0"), "--episode"),
        (("--episode", "6"), "shorter than an episode"),
        (("--auction", "third"), "--auction"),
        (("--feedback", "none"), "--feedback"),
        (("--strategy", "magic"), "--strategy"),
        (("--seed", "-1"), "--seed"),
        (("--history", "h.txt"), "--history, --info"),
    ],
)
def test_bad_options_end_with_2(
    run: Callable[..., tuple[int, str, str]], arguments: tuple[str, ...], what: str
) -> None:
    code, out, err = run(*arguments, "--json")
    assert (code, out) == (2, "")
    assert what in err


@pytest.mark.parametrize(
    "content",
    [
        *(
            "",
            "[]",
            "{",
            '{"cost_train": 1}',
            '{"cost_train": 0, "imp_train": 2}',
            '{"cost_train": 1.5, "imp_train": 2}',
        ),
        '{"cost_train": 1, "imp_train": 2, "price_counter_train": [1, -1]}',
    ],
)
def test_an_info_that_gives_no_price_level_ends_with_2(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, content: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    code, out, err = run("--json", info=path)
    assert (code, out) == (2, "")
    assert "bad.json" in err


def test_without_history_and_info_there_is_no_budget(run: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = run("--json", info=None)
    assert code == 2
    assert "--history, --info" in err


def test_empty_missing_and_damaged_logs_end_with_2(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, log_path: Path
) -> None:
    empty, cut = tmp_path / "empty.txt", tmp_path / "cut.txt.gz"
    empty.write_text("\n \n")
    cut.write_bytes(gzip.compress(LOG.encode() * 100)[:-20])
    for path in (empty, cut, tmp_path / "absent.txt"):
        code, out, err = run("--json", log=path)
        assert (code, out) == (2, "")
        assert path.name in err


def test_nothing_to_win_is_no_division_by_zero(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    path = tmp_path / "worthless.txt"
    path.write_text("0 10 0\n0 3 0\n")
    code, out, _ = run("--fractions", "1e-9", "--json", log=path)
    assert code == 0
    row: dict[str, Any] = json.loads(out)["results"][0]
    assert (row["share_of_oracle"], row["delivered"], row["budget"]) == (0.0, 0.0, 0)
