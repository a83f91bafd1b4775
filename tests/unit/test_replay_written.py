"""User-written strategies in a replay: told what the default one would bid, and held to the engine's limits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.bidding.settings import BiddingConfig
from headrace.errors import ConfigError, StrategyError
from headrace_training.replay.info import MAX_BID
from headrace_training.replay.strategies import make_strategy
from headrace_training.replay.strategies.base import NO_BID, Start
from headrace_training.replay.strategies.resolve import resolve

EXAMPLES = Path(__file__).parents[2] / "examples" / "strategies"


def written(tmp_path: Path, body: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(f"@strategy\ndef mine(ask, x=2):\n    {body}\n")
    return f"{file}:mine"


def start(**changes: object) -> Start:
    prices = np.bincount(np.arange(10, 31), minlength=MAX_BID + 1) / 21.0
    known = {"budget": 500, "episode": 100, "first_price": False, "prices": prices, "weight": 21.0, "value": 0.01}
    return Start(**(known | {"history": None, "n_exchanges": 1, "seed": 0} | changes))  # type: ignore[arg-type]


def bids(strategy: object, values: list[float]) -> list[int]:
    strategy.begin()  # type: ignore[attr-defined]
    made = []
    for i, value in enumerate(values):
        made.append(strategy.bid(value, 0, 500 - i, 100 - i))  # type: ignore[attr-defined]
        strategy.learn(made[-1], False, 20, -1)  # type: ignore[attr-defined]
    return made


VALUES = [0.01, 0.02, 0.005, 0.0, 0.01, 0.03] * 8


@pytest.mark.parametrize("first_price", [False, True])
def test_who_answers_what_it_is_told_bids_as_the_default_within_the_limits(tmp_path: Path, first_price: bool) -> None:
    begin = start(first_price=first_price)
    ours = bids(make_strategy(written(tmp_path, "return ask.shaded_cpm"), begin), VALUES)
    most = [BiddingConfig().strategy_max_over_value * value / 0.01 * 20 for value in VALUES]
    usual = [min(max(bid, 0), int(limit)) for bid, limit in zip(bids(resolve(begin), VALUES), most, strict=True)]
    assert [max(bid, 0) for bid in ours] == usual
    assert max(usual) > 0


def test_all_that_it_is_told(tmp_path: Path) -> None:
    def asked(what: str, **changes: object) -> list[int]:
        return bids(make_strategy(written(tmp_path, f"return 1e6 * ({what})"), start(**changes)), [0.01, 0.02])

    assert asked("ask.value_cpm / 1e6") == [20, 40]  # the mean impression is worth the mean price
    assert asked("ask.value_cpm / 1e6", value=float("nan")) == [20, 40]  # or else the first one
    assert asked("10 * ask.budget_left + 1e-6") == [10, 9]
    assert asked("10 * ask.time_left + 1e-6") == [10, 9]
    assert asked("21 * ask.win_rate(19.99e6) + 1e-6") == [10, 10]
    assert asked("ask.highest_cpm / 1e6") == [40, 80]
    assert asked("ask.first_price + x", first_price=True) == [3, 3]


@pytest.mark.parametrize("nonsense", ["math.sqrt(-1)", "1 / (x - 2)", "-5", "0"])
def test_what_is_no_price_is_no_bid(tmp_path: Path, nonsense: str) -> None:
    assert bids(make_strategy(written(tmp_path, f"return {nonsense}"), start()), VALUES[:3]) == [NO_BID] * 3


def test_a_million_is_cut(tmp_path: Path) -> None:
    million = make_strategy(written(tmp_path, "return 1e12"), start())
    million.begin()
    assert million.bid(0.01, 0, 500, 100) == 40
    assert million.bid(0.01, 0, 7, 100) == 7
    assert million.bid(10.0, 0, 10**6, 100) == MAX_BID
    assert million.bid(0.0, 0, 500, 100) == NO_BID


def test_files_that_hold_none(tmp_path: Path) -> None:
    with pytest.raises(StrategyError, match="cannot be read"):
        make_strategy(f"{tmp_path}/none.py:mine", start())
    with pytest.raises(ConfigError, match=r"FILE\.py:FUNCTION, constant"):
        make_strategy("mine", start())


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    lines = [f"{int(rng.random() < 0.1)} {rng.integers(5, 80)} {0.01 * rng.random():.5f}" for _ in range(400)]
    for name in ("log", "history"):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return ["replay", "--log", str(tmp_path / "log"), "--history", str(tmp_path / "history"), "--json"]


def test_the_command_warns_of_answers_that_are_no_price(
    headrace_train: Any, tmp_path: Path, arguments: list[str]
) -> None:
    spec = written(tmp_path, "return ask.shaded_cpm * (1 if ask.budget_left > 0.5 else math.sqrt(-1))")
    _, out, err = headrace_train(*arguments, "--fractions", "0.25,0.5", "--strategy", spec)
    (warning,) = json.loads(out)["warnings"]
    assert re.match(r"strategy mine: \d+ of \d+ answers were no price", warning)
    assert f"warning: {warning}\n" in err


def test_the_command_plays_the_examples(headrace_train: Any, arguments: list[str]) -> None:
    for name in ("threshold", "square_root"):
        spec = f"{EXAMPLES / name}.py:{name}"
        code, out, err = headrace_train(*arguments, "--fractions", "0.25", "--strategy", spec)
        assert code == 0, err
        found = json.loads(out)
        assert (found["strategy"], found["warnings"]) == (spec, [])
        assert 0.0 < found["results"][0]["share_of_oracle"] <= 1.0
