"""Off-policy estimates: by hand, on simulated logs whose truth is known, and against logs that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse as sp

from headrace.errors import ConfigError, DataError
from headrace_training.bandit import BanditLog, Policy, read_log, read_policy, uniform
from headrace_training.offpolicy import estimate, estimate_files
from headrace_training.rewards import RewardModel

HEADER = "item_id,position,click,propensity_score,mood"
ROWS = ("a,1,1,0.5,x", "a,1,0,0.5,y", "b,2,1,0.25,x", "b,2,0,0.25,y")

WORTH = 1 / (1 + np.exp(-np.add.outer([-2.5, 2.5], [-2.0, 0.0, 1.0, 2.0])))
"""Chance of a reward by context and action."""

LOGGING = np.array([[0.55, 0.25, 0.15, 0.05], [0.4, 0.3, 0.2, 0.1]])
TARGET = np.array([[0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.2, 0.5]])
TRUTH = float((TARGET * WORTH).sum(axis=1).mean())
N_REPEATS = 60


def table(folder: Path, *rows: str, header: str = HEADER, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def simulated(seed: int, n: int = 600) -> tuple[BanditLog, Policy]:
    rng = np.random.default_rng(seed)
    context = rng.integers(0, 2, n)
    action = (rng.random((n, 1)) > LOGGING[context].cumsum(axis=1)[:, :-1]).sum(axis=1)
    reward = (rng.random(n) < WORTH[context, action]).astype(np.float64)
    features = sp.csr_matrix((np.ones(n), (np.arange(n), context)), shape=(n, 2))
    place = np.zeros(n, dtype=np.int32)
    log = BanditLog(list("abcd"), 4, action.astype(np.int32), reward, LOGGING[context, action], [""], place, features)
    return log, Policy("target", TARGET, context.astype(np.int32))


@pytest.fixture(scope="module")
def repeats() -> list[dict[str, Any]]:
    """Estimates from logs that differ in their seed alone."""
    return [estimate(*simulated(seed), seed=seed) for seed in range(N_REPEATS)]


@pytest.mark.parametrize("kind", ["ips", "snips", "dr"])
@pytest.mark.parametrize("of", ["interval", "normal_interval"])
def test_95_percent_intervals_hold_the_truth_that_often(repeats: list[dict[str, Any]], kind: str, of: str) -> None:
    held = sum(found[kind][of][0] <= TRUTH <= found[kind][of][1] for found in repeats)
    # fewer than 52 of 60 have a chance of 1 in 150 at 95 %
    assert held >= 52


@pytest.mark.parametrize("kind", ["ips", "snips", "dr"])
def test_estimates_are_unbiased(repeats: list[dict[str, Any]], kind: str) -> None:
    estimates = np.array([found[kind]["estimate"] for found in repeats])
    assert abs(estimates.mean() - TRUTH) < 3 * estimates.std() / np.sqrt(N_REPEATS)
    # while the logged rate is another policy's
    assert abs(np.mean([found["logged"]["estimate"] for found in repeats]) - TRUTH) > 0.05


def test_doubly_robust_is_surer_than_ips_with_a_good_reward_model(repeats: list[dict[str, Any]]) -> None:
    spread = {kind: np.std([found[kind]["estimate"] for found in repeats]) for kind in ("ips", "dr")}
    assert spread["dr"] < 0.8 * spread["ips"]
    errors = {kind: np.mean([found[kind]["standard_error"] for found in repeats]) for kind in ("ips", "dr")}
    assert errors["dr"] == pytest.approx(spread["dr"], rel=0.3)
    assert errors["ips"] == pytest.approx(spread["ips"], rel=0.3)


def test_wrong_propensities_are_seen_in_the_mean_weight(repeats: list[dict[str, Any]]) -> None:
    log, policy = simulated(1)
    wrong = BanditLog(
        log.actions, 4, log.action, log.reward, log.propensity * 0.7, log.positions, log.position, log.context
    )
    assert any("mean weight" in text for text in estimate(wrong, policy)["warnings"])
    assert repeats[1]["warnings"] == []


def test_the_estimates_by_hand(tmp_path: Path) -> None:
    found = estimate_files(table(tmp_path, *ROWS), "uniform")
    # weights .5 / .5 and .5 / .25: 1, 1, 2, 2; rewards 1, 0, 1, 0
    assert found["logged"]["estimate"] == pytest.approx(2 / 4)
    assert found["ips"]["estimate"] == pytest.approx((1 + 2) / 4)
    assert found["snips"]["estimate"] == pytest.approx((1 + 2) / 6)
    assert found["effective_sample_size"] == pytest.approx(6**2 / (1 + 1 + 4 + 4))
    assert found["max_weight"] == 2.0
    assert found["ips"]["standard_error"] == pytest.approx(np.std([1, 0, 2, 0], ddof=1) / 2)
    assert found["reward_model"] == "logistic"


def test_clipped_weights_are_reported(tmp_path: Path) -> None:
    found = estimate_files(table(tmp_path, *ROWS), "uniform", clip=1.5)
    assert found["ips"]["estimate"] == pytest.approx((1 + 1.5) / 4)
    assert (found["clip"], found["clipped_share"], found["max_weight"]) == (1.5, 0.5, 2.0)


def test_a_log_of_the_policy_itself_gives_the_logged_rate(tmp_path: Path) -> None:
    rows = [row.replace("0.25", "0.5") for row in ROWS]
    found = estimate_files(table(tmp_path, *rows), "uniform")
    assert found["ips"] == found["logged"]
    assert found["effective_sample_size"] == pytest.approx(4)


def test_rewards_that_are_amounts_have_a_linear_model(tmp_path: Path) -> None:
    rows = [row.replace(",1,0.", ",7.5,0.") for row in ROWS]
    assert estimate_files(table(tmp_path, *rows), "uniform", context=("mo*",))["reward_model"] == "ridge"


def test_parquet_and_other_names_are_read_alike(tmp_path: Path) -> None:
    columns = {"action": [7, 7, 8], "reward": [1, 0, 1], "propensity": [0.5, 0.5, 0.5]}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    log = read_log(tmp_path / "log.parquet")
    assert log.actions == ["7", "8"]
    assert log.positions == [""]


def test_items_never_logged_are_a_share_of_what_the_policy_takes(tmp_path: Path) -> None:
    items = table(tmp_path, "a", "b", "c", "d", header="item_id", name="items.csv")
    found = estimate_files(table(tmp_path, *ROWS), "uniform", catalogue=items)
    assert found["actions"] == 4
    assert found["unsupported_share"] == pytest.approx(0.5)
    assert any("50.0% of what the policy takes was never logged" in text for text in found["warnings"])
    assert found["ips"]["estimate"] == pytest.approx((0.5 + 1) / 4)


def test_a_low_effective_sample_size_is_warned_of(tmp_path: Path) -> None:
    assert any(
        "effective sample size" in text for text in estimate_files(table(tmp_path, *ROWS), "uniform")["warnings"]
    )


@pytest.mark.parametrize("value", ["0", "-0.1", "1.01", "", "nan", "inf", "x"])
def test_a_propensity_outside_0_to_1_is_refused_by_its_row(tmp_path: Path, value: str) -> None:
    path = table(tmp_path, ROWS[0], f"b,1,0,{value},x")
    with pytest.raises(
        DataError, match=r"row 2: propensity_score: got .* expected a probability above 0 and at most 1"
    ):
        estimate_files(path, "uniform")


@pytest.mark.parametrize(
    ("rows", "header", "what"),
    [
        (("a,1,x,0.5,x",), HEADER, "row 1: click"),
        (("a,1,,0.5,x",), HEADER, "row 1: click"),
        ((",1,0,0.5,x",), HEADER, "row 1: item_id"),
        (("a,,0,0.5,x",), HEADER, "row 1: position"),
        (("a,1,0",), HEADER, "row 1: 3 fields"),
        (("a,1,0,0.5,x",), HEADER, "fewer than two rows"),
        ((), HEADER, "fewer than two rows"),
        (("a,1,0.5",), "item_id,click,p", "propensity_score"),
        (("a,1,0.5",), "item_id,seen,propensity", "click"),
    ],
)
def test_logs_that_cannot_be_used_are_refused(tmp_path: Path, rows: tuple[str, ...], header: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        estimate_files(table(tmp_path, *rows, header=header), "uniform")


def test_a_policy_may_depend_on_the_position_or_the_row(tmp_path: Path) -> None:
    log = read_log(table(tmp_path, *ROWS))
    header = "position,item_id,probability"
    by_position = table(tmp_path, "1,a,0.9", "1,b,0.1", "2,b,1", header=header, name="p.csv")
    assert read_policy(by_position, log).of_logged(log) == pytest.approx([0.9, 0.9, 1, 1])
    rows = [f"{row},{item},{p}" for row in range(1, 5) for item, p in (("a", row / 4), ("b", 1 - row / 4))]
    by_row = table(tmp_path, *rows, header="row,item_id,probability", name="r.csv")
    assert read_policy(by_row, log).of_logged(log) == pytest.approx([0.25, 0.5, 0.25, 0])
    same = table(tmp_path, "a,0.75", "b,0.25", header="item_id,probability", name="s.csv")
    assert estimate_files(tmp_path / "log.csv", str(same))["ips"]["estimate"] == pytest.approx((1.5 + 1) / 4)


@pytest.mark.parametrize(
    ("rows", "header", "what"),
    [
        (("a,0.5", "b,0.4"), "item_id,probability", r"got 0\.9, expected 1 over all items"),
        (("a,1.5", "b,-0.5"), "item_id,probability", "row 1: probability"),
        (("a,0.5", "a,0.5"), "item_id,probability", "row 2: item_id: got 'a', expected each item once"),
        (("a,0.5", "z,0.5"), "item_id,probability", "row 2: item_id: got 'z'"),
        (("1,a,1",), "position,item_id,probability", "position 2: sum"),
        (("9,a,1",), "row,item_id,probability", "row 1: row: got '9'"),
        (("a",), "item_id", "probability"),
    ],
)
def test_policies_that_are_none_are_refused(tmp_path: Path, rows: tuple[str, ...], header: str, what: str) -> None:
    log = read_log(table(tmp_path, *ROWS))
    with pytest.raises(DataError, match=what):
        read_policy(table(tmp_path, *rows, header=header, name="policy.csv"), log)


def test_a_policy_that_takes_nothing_logged_is_refused(tmp_path: Path) -> None:
    items = table(tmp_path, "c", header="item_id", name="items.csv")
    policy = table(tmp_path, "c,1", header="item_id,probability", name="policy.csv")
    with pytest.raises(DataError, match="none of the logged actions"):
        estimate_files(table(tmp_path, *ROWS), str(policy), catalogue=items)


@pytest.mark.parametrize("options", [{"clip": 0.5}, {"clip": float("nan")}, {"seed": -1}, {"context": ("age",)}])
def test_options_out_of_range_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        estimate_files(table(tmp_path, *ROWS), "uniform", **options)


def test_no_reward_and_every_reward_have_finite_estimates(tmp_path: Path) -> None:
    for reward in "01":
        rows = [f"{item},1,{reward},0.5,x" for item in "abab"]
        found = estimate_files(table(tmp_path, *rows), "uniform", context=("mood",))
        assert found["ips"]["estimate"] == float(reward)
        assert np.isfinite(found["dr"]["interval"]).all()


def test_the_reward_model_is_where_its_gradient_vanishes() -> None:
    log, _ = simulated(5)
    model = RewardModel.fit(log.context, log.action, log.reward, 4, True)
    error = model.of_logged(log.context, log.action) - log.reward
    assert abs(error.sum()) < 0.05
    for action in range(4):
        assert error[log.action == action].sum() == pytest.approx(-model.of_action[action], abs=0.05)
    policy = uniform(log)
    every = np.stack([model.of_logged(log.context, np.full(len(log), action, np.int32)) for action in range(4)])
    assert model.of_policy(log.context, policy.table, policy.group) == pytest.approx(every.mean(axis=0))


def test_the_command_prints_one_object_and_ends_with_2_on_bad_input(headrace_train: Any, tmp_path: Path) -> None:
    arguments = ["offpolicy", "--log", str(table(tmp_path, *ROWS)), "--context", "mood, position"]
    code, out, _ = headrace_train(*arguments, "--json")
    assert code == 0
    first = json.loads(out)
    assert first == estimate_files(tmp_path / "log.csv", "uniform", context=("mood", "position"))
    assert "doubly robust" in headrace_train(*arguments)[1]
    assert headrace_train("offpolicy", "--log", tmp_path / "absent.csv", "--json")[:2] == (2, "")
