"""Scenario files: what is wrong is named, and ends with exit code 2."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from headrace.errors import ConfigError
from headrace.simulate.loading import read_plan, ready_names, scenario_text


def at(values, path):
    for step in path[:-1]:
        values = values[step]
    return values, path[-1]


WRONG = [
    (["traffic", "requests_per_day"], 0, "traffic.requests_per_day"),
    (["traffic", "requests_per_day"], 30_000_000, "traffic.requests_per_day"),
    (["traffic", "hours"], [1.0] * 23, "traffic.hours"),
    (["traffic", "hours"], [0.0] * 24, "traffic.hours"),
    (["traffic", "hours"], [float("nan")] * 24, "traffic.hours"),
    (["traffic", "swings"], [{"at_hour": -1, "hours": 1, "factor": 5}], "traffic.swings[0].at_hour"),
    (["days"], 0, "days"),
    (["days"], 0.3, "days"),
    (["seed"], -1, "seed"),
    (["start"], "2025-03-03T00:30:00Z", "start"),
    (["nonsense"], 1, "nonsense"),
    (["exchanges"], [], "exchanges"),
    (["exchanges", 0, "share"], 0, "exchanges[0].share"),
    (["exchanges", 0, "auction"], "third_price", "exchanges[0].auction"),
    (["exchanges", 0, "fee"], 1.0, "exchanges[0].fee"),
    (["exchanges", 0, "competitors", 0, "kind"], "clever", "exchanges[0].competitors[0].kind"),
    (["exchanges", 0, "competitors", 0, "sigma"], -0.1, "exchanges[0].competitors[0].sigma"),
    (["exchanges", 0, "competitors", 0, "hours"], [1.0], "exchanges[0].competitors[0].hours"),
    (["exchanges", 0, "competitors", 0, "daily_budget_micros"], 5, "exchanges[0].competitors[0].daily_budget_micros"),
    (["exchanges", 0, "competitors", 0, "kind"], "budgeted", "exchanges[0].competitors[0].daily_budget_micros"),
    (["exchanges", 0, "notices"], {"bills_lost": 1.5}, "exchanges[0].notices.bills_lost"),
    (["shocks"], [{"at_hour": 1, "hours": 1, "factor": 2, "exchange": "adx"}], "shocks[0].exchange"),
    (["outages"], [{"at_hour": 1, "hours": 1, "kind": "moon"}], "outages[0].kind"),
    (["outages"], [{"at_hour": 1, "hours": 1, "kind": "server", "exchange": "open"}], "outages[0].exchange"),
    (["edits"], [{"at_hour": 1, "campaign_id": "autumn"}], "edits[0].campaign_id"),
    (["campaigns"], [], "campaigns"),
    (["campaigns", 0, "limits"], {"daily": 1}, "campaigns[0]"),
    (["campaigns", 0, "limits"], {"daily_micros": -1}, "limits.daily_micros"),
    (["campaigns", 0, "line_items"], [], "line_items"),
    (["campaigns", 0, "line_items", 0, "item_ids"], ["i"], "item_ids"),
    (["campaigns", 0, "time_zone"], "Mars/Base", "time_zone"),
    (["values"], {}, 'values."spring/shoes"'),
    (["values", "spring/hats"], {"mean": 0.1}, "spring/hats"),
    (["values", "spring/shoes"], {"mean": 0.0}, "mean"),
    (["knowledge"], {"traffic": "wrong"}, "knowledge.traffic"),
    (["values", "spring/shoes"], 5, 'values."spring/shoes": Expected a table'),
    (["deposits"], {"acme": -1}, 'deposits."acme"'),
    (["deposits"], {"acme": 1.5}, 'deposits."acme"'),
    (["deposits"], {"acme": 0}, "deposits.acme"),
    (["deposits"], {"acne": 5}, "deposits: got 'acne', expected an advertiser that has a campaign; did you mean acme?"),
    (["traffic"], 5, "traffic: Expected a table"),
    (["traffic"], {}, "traffic: missing key `requests_per_day`"),
    (["traffic", "weekday"], [1.0] * 7, "traffic: unknown key `weekday`"),
    (["traffic", "requests_per_day"], 1, "no auction"),
    (["traffic", "requests_per_day"], True, "traffic.requests_per_day"),
    (["traffic", "hours"], [0.0] * 23 + [1.0], "no auction"),
    (["traffic", "weekdays"], [float("nan")] * 7, "traffic.weekdays[0]"),
    (["traffic", "swings"], [{"at_hour": 6, "hours": 1, "factor": 5}], "traffic.swings[0].at_hour"),
    (["traffic", "swings"], [{"at_hour": 1, "hours": 0, "factor": 5}], "traffic.swings[0].hours"),
    (["days"], float("inf"), "days"),
    (["seed"], 1.5, "seed"),
    (["start"], "0001-01-01T00:00:00Z", "start"),
    (["start"], "9999-12-31T00:00:00Z", "start"),
    (["start"], "tomorrow", "start"),
    (["exchanges", 0, "share"], float("nan"), "exchanges[0].share"),
    (["exchanges", 0, "floor_cpm_micros"], -1, "exchanges[0].floor_cpm_micros"),
    (["exchanges", 0, "countries"], {"DE": 1, "FR": 0}, 'exchanges[0].countries."FR"'),
    (["exchanges", 0, "countries"], {"de": 1}, 'exchanges[0].countries."de"'),
    (["exchanges", 0, "categories"], {"": 1}, 'exchanges[0].categories.""'),
    (["exchanges", 0, "notices"], {"delay_ms": float("nan")}, "exchanges[0].notices.delay_ms"),
    (["exchanges", 0, "competitors"], [], "exchanges[0].competitors"),
    (["exchanges", 0, "competitors", 0, "median_cpm_micros"], 0, "exchanges[0].competitors[0].median_cpm_micros"),
    (["exchanges", 0, "competitors", 0, "present"], float("nan"), "exchanges[0].competitors[0].present"),
    (["shocks"], [{"at_hour": 6, "hours": 1, "factor": 2}], "shocks[0].at_hour"),
    (["shocks"], [{"at_hour": 1, "hours": 1, "factor": float("nan")}], "shocks[0].factor"),
    (["outages"], [{"at_hour": 30, "hours": 1, "kind": "server"}], "outages[0].at_hour"),
    (["outages"], [{"at_hour": 1, "hours": 0, "kind": "server"}], "outages[0].hours"),
    (["outages"], [{"at_hour": 0, "hours": 6, "kind": "exchange"}], "no auction"),
    (["outages"], [{"at_hour": hour, "hours": 2, "kind": "server"} for hour in (2, 1)], "outages[0].at_hour"),
    (["edits"], [{"at_hour": 6, "campaign_id": "spring", "paused": True}], "edits[0].at_hour"),
    (["edits"], [{"at_hour": 1, "campaign_id": "spring"}], "edits[0]"),
    (["campaigns", 0, "flight_end_ms"], 1_000, "campaign spring: flight_end_ms"),
    (["campaigns", 0, "flight_end_ms"], 1.5, "flight_end_ms"),
    (["campaigns", 0, "goals"], {"target_roas": float("nan")}, "target_roas"),
    (["campaigns", 0, "line_items", 0, "action_worth_micros"], -1, "action_worth_micros"),
    (["campaigns", 0, "line_items", 0, "strategy"], "mine", "--config"),
    (["campaigns"], [5], "campaigns[0]: Expected a table"),
    (["purchase_delay_hours"], -1, "purchase_delay_hours"),
    (["knowledge"], {"price_factor": float("nan")}, "knowledge.price_factor"),
]


@pytest.mark.parametrize(("path", "value", "named"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_field_is_named_with_exit_code_2(headrace, tmp_path, small, path, value, named):
    values = copy.deepcopy(small.values)
    part, key = at(values, path)
    part[key] = value
    (tmp_path / "wrong.toml").write_text(toml(values))
    code, out, error = headrace("simulate", tmp_path / "wrong.toml", "--json")
    assert code == 2
    assert out == ""
    assert named in error
    assert error.count("\n") == 1


def toml(values):
    """Inline tables throughout; enough for these tests."""

    def text(value):
        if isinstance(value, dict):
            return "{" + ", ".join(f"{json.dumps(key)} = {text(each)}" for key, each in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        return str(value) if isinstance(value, float) else json.dumps(value)

    return "\n".join(f"{key} = {text(value)}" for key, value in values.items())


def test_nothing_is_edited_while_the_server_is_down(small):
    def change(values, at_hour):
        values["outages"] = [{"at_hour": 1, "hours": 2, "kind": "server"}]
        values["edits"] = [{"at_hour": at_hour, "campaign_id": "spring", "paused": True}]

    with pytest.raises(ConfigError, match=r"edits\[0\]\.at_hour.*server is up"):
        small.plan(lambda values: change(values, 2))
    for edge in (1, 3):
        small.plan(lambda values, edge=edge: change(values, edge))


def test_an_outage_may_begin_as_another_ends(small):
    def change(values):
        values["outages"] = [{"at_hour": hour, "hours": 0.1, "kind": "server"} for hour in (2.2, 2.3)]

    assert 2.2 + 0.1 > 2.3
    small.plan(change)


def test_a_campaign_that_no_request_fits_is_warned_of(small):
    def change(values):
        values["traffic"]["requests_per_day"] = 500
        values["campaigns"][0]["line_items"][0]["targeting"] = {"countries": ["FR"]}

    (warning,) = small.run(change).summary["warnings"]
    assert warning.startswith("campaign spring: no request fits it")


def test_files_that_are_none(headrace, tmp_path):
    code, _, error = headrace("simulate", tmp_path / "nowhere.toml")
    assert code == 2
    assert "hard_day" in error
    (tmp_path / "torn.toml").write_text("name = ")
    code, _, error = headrace("simulate", tmp_path / "torn.toml")
    assert code == 2
    assert "not TOML" in error
    code, _, error = headrace("simulate", "quiet_day", "--seed", "-1")
    assert code == 2
    assert "--seed" in error
    assert headrace("simulate", "quiet_day", "--config", tmp_path / "nowhere.toml")[0] == 2


def test_two_currencies(small):
    other = {**small.values["campaigns"][0], "campaign_id": "other", "currency": "EUR"}
    with pytest.raises(ConfigError, match=r"currencies.*EUR.*USD"):
        small.plan(lambda values: values["campaigns"].append(other))


def test_two_of_one_name(small):
    for what in ("campaigns", "exchanges"):
        with pytest.raises(ConfigError, match=rf"{what}.*each name once"):
            small.plan(lambda values, what=what: values[what].append(values[what][0]))


@pytest.mark.parametrize("name", ready_names())
def test_ready_scenarios_can_be_read_and_shown(headrace, name):
    assert read_plan(name).scenario.days >= 1.0
    assert headrace("simulate", name, "--show") == (0, scenario_text(name), "")


def test_the_command_prints_one_object_or_lines_and_writes_the_page(headrace, tmp_path, small):
    values = copy.deepcopy(small.values) | {"name": "<b>hostile</b> & co"}
    values["traffic"]["requests_per_day"] = 2_000
    values["edits"] = [{"at_hour": 3, "campaign_id": "spring", "lifetime_micros": 600_000}]
    (tmp_path / "mine.toml").write_text(toml(values))
    page = tmp_path / "sub" / "report.html"
    code, out, error = headrace("simulate", tmp_path / "mine.toml", "--seed", "9", "--json", "--out", page)
    assert code == 0
    summary = json.loads(out)
    assert summary["seed"] == 9
    assert summary["campaigns"][0]["disturbances"][0]["what"] == "an edit"
    assert f"report: {page}" in error
    text = page.read_text()
    assert text.count("<svg") >= 4
    assert "<script" not in text
    assert "<b>hostile" not in text
    assert "&lt;b&gt;hostile" in text
    code, said, _ = headrace("simulate", tmp_path / "mine.toml", "--seed", "9")
    assert code == 0
    assert "spring: spent" in said
    assert "an edit at hour 3" in said


def test_without_the_packages_of_pages_it_says_so_and_json_works(headrace, tmp_path, monkeypatch, small):
    monkeypatch.setattr("headrace.page.find_spec", lambda name: None)
    values = copy.deepcopy(small.values)
    values["traffic"]["requests_per_day"] = 1_000
    (tmp_path / "mine.toml").write_text(toml(values))
    code, _, error = headrace("simulate", tmp_path / "mine.toml", "--out", tmp_path / "page.html")
    assert code == 2
    assert "headrace[simulate]" in error
    code, out, _ = headrace("simulate", tmp_path / "mine.toml", "--json")
    assert code == 0
    assert json.loads(out)["auctions"] > 150


def test_the_settings_of_a_server_are_tried(headrace, tmp_path, small):
    values = copy.deepcopy(small.values)
    values["traffic"]["requests_per_day"] = 500
    (tmp_path / "mine.toml").write_text(toml(values))
    (tmp_path / "serve.toml").write_text("[bidding]\nmax_bid_cpm_micros = 1\n")
    code, out, _ = headrace("simulate", tmp_path / "mine.toml", "--config", tmp_path / "serve.toml", "--json")
    assert code == 0
    assert json.loads(out)["bids"] == 0


def test_a_strategy_of_ones_own_is_tried(headrace, tmp_path, small):
    values = copy.deepcopy(small.values)
    values["traffic"]["requests_per_day"] = 2_000
    values["campaigns"][0]["line_items"][0] |= {"strategy": "threshold", "strategy_parameters": [5_000_000]}
    (tmp_path / "mine.toml").write_text(toml(values))
    rule = Path(__file__).parents[3] / "examples" / "strategies" / "threshold.py"
    (tmp_path / "serve.toml").write_text(f'[bidding]\nstrategies = ["{rule}:threshold"]\n')
    code, out, _ = headrace("simulate", tmp_path / "mine.toml", "--config", tmp_path / "serve.toml", "--json")
    assert code == 0
    tried = json.loads(out)
    assert 0 < tried["bids"] < tried["auctions"] / 2
    assert tried["warnings"] == []
    code, _, error = headrace("simulate", tmp_path / "mine.toml", "--json")
    assert code == 2
    assert "threshold" in error


def test_a_strategy_that_answers_no_price_is_warned_of_over_all_starts(headrace, tmp_path, small):
    values = copy.deepcopy(small.values)
    values["traffic"]["requests_per_day"] = 500
    values["outages"] = [{"at_hour": 1, "hours": 1, "kind": "server"}]
    values["campaigns"][0]["line_items"][0]["strategy"] = "nothing"
    (tmp_path / "mine.toml").write_text(toml(values))
    (tmp_path / "rule.py").write_text("@strategy\ndef nothing(ask):\n    return math.sqrt(-1)\n")
    (tmp_path / "serve.toml").write_text(f'[bidding]\nstrategies = ["{tmp_path}/rule.py:nothing"]\n')
    code, out, error = headrace("simulate", tmp_path / "mine.toml", "--config", tmp_path / "serve.toml", "--json")
    assert code == 0
    tried = json.loads(out)
    (warning,) = tried["warnings"]
    asked = tried["auctions"] - tried["unanswered"]
    assert warning.startswith(f"strategy nothing: {asked} of {asked} answers were no price")
    assert f"warning: {warning}\n" in error
    assert tried["bids"] == 0
