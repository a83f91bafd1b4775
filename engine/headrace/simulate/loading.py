"""From a scenario file to a checked scenario and its campaigns."""

from __future__ import annotations

import dataclasses
import datetime as dt
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

import msgspec
from google.protobuf.json_format import ParseDict, ParseError

from headrace.bidding.board import line_account
from headrace.bidding.validation import checked_campaign
from headrace.errors import ConfigError, InvalidRequestError
from headrace.simulate.scenario import MAX_AUCTIONS, Scenario
from headrace.v1 import campaigns_pb2 as pb

MAX_LINES = 256
MAX_CELLS = 200_000_000
"""Auctions times line items, whose probabilities are held in memory."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """A scenario that can be run: its campaigns as checked messages, and its line items in the board's order.

    lines : (campaign row, line item row) of each line item.   keys : their names, "campaign/line item".
    """

    scenario: Scenario
    campaigns: list[pb.Campaign]
    lines: list[tuple[int, int]]
    keys: list[str]


def ready_names() -> list[str]:
    """Scenarios that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml"))


def scenario_text(name: str) -> str:
    """The text of a file, or of a ready scenario by its name; ConfigError when there is none that can be read."""
    try:
        if name in ready_names():
            return _folder().joinpath(f"{name}.toml").read_text("utf-8")
        return Path(name).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        hint = f"name a TOML file, or one of {', '.join(ready_names())}"
        raise ConfigError(f"the scenario {name} cannot be read: {reason}", hint=hint) from error


def read_plan(name: str, seed: int | None = None) -> Plan:
    """A scenario by file or name; ConfigError names the field that is wrong."""
    try:
        values = tomllib.loads(scenario_text(name))
        scenario = msgspec.convert(values if seed is None else {**values, "seed": seed}, Scenario)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the scenario {name} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"the scenario {name}: {_readable(error)}", hint="docs/simulate.md has every key") from error
    return make_plan(scenario)


def make_plan(scenario: Scenario) -> Plan:
    """Check what one key says against another; ConfigError names the first that does not fit."""
    if scenario.start.tzinfo is None:
        scenario = msgspec.structs.replace(scenario, start=scenario.start.replace(tzinfo=dt.UTC))
    if scenario.start_ms % 3_600_000:
        raise ConfigError("start", str(scenario.start), "a full hour", "write start = 2025-03-03T00:00:00Z")
    if (24.0 * scenario.days) % 1.0:
        raise ConfigError("days", scenario.days, "whole hours, such as 0.25 for six")
    if sum(scenario.traffic.hours) == 0.0 or sum(scenario.traffic.weekdays) == 0.0:
        raise ConfigError("traffic.hours and traffic.weekdays", "only zeros", "some hour and some day with traffic")
    campaigns = sorted(_campaigns(scenario), key=lambda campaign: campaign.campaign_id)
    _check_unique("campaigns", [campaign.campaign_id for campaign in campaigns])
    currencies = sorted({campaign.currency for campaign in campaigns})
    if len(currencies) > 1:
        raise ConfigError(
            "campaigns: their currencies", currencies, "one", "a scenario's exchanges trade in one currency"
        )
    _check_unique("exchanges", [exchange.name for exchange in scenario.exchanges])
    _check_names(scenario, [campaign.campaign_id for campaign in campaigns])
    lines = [(i, j) for i, campaign in enumerate(campaigns) for j in range(len(campaign.line_items))]
    keys = [f"{campaigns[i].campaign_id}/{campaigns[i].line_items[j].line_item_id}" for i, j in lines]
    _check_size(scenario, len(lines))
    _check_values(scenario, keys)
    for i, j in lines:
        line = campaigns[i].line_items[j]
        # one item a line item, so that its probability is the line item's
        line.item_ids[:] = [line_account(campaigns[i], line.line_item_id)]
    return Plan(scenario, campaigns, lines, keys)


def _campaigns(scenario: Scenario) -> Iterator[pb.Campaign]:
    for row, fields in enumerate(scenario.campaigns):
        where = f"campaigns[{row}]"
        try:
            campaign = ParseDict(fields, pb.Campaign())
        except (ParseError, ValueError, TypeError) as error:
            said = " ".join(str(error).split())
            raise ConfigError(f"{where}: {said}", hint="its fields are those of Campaign in campaigns.proto") from error
        for line in campaign.line_items:
            if line.item_ids:
                raise ConfigError(f"{where}: item_ids", list(line.item_ids), "none", "values says how they sell")
            line.item_ids.append("item")
        try:
            yield checked_campaign(campaign)
        except InvalidRequestError as error:
            raise ConfigError(f"{where}: {error}") from error


def _check_unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(what, name, "each name once")


def _check_names(scenario: Scenario, campaigns: Sequence[str]) -> None:
    exchanges = [exchange.name for exchange in scenario.exchanges]
    places = [(f"shocks[{row}].exchange", shock.exchange) for row, shock in enumerate(scenario.shocks)]
    places += [(f"outages[{row}].exchange", outage.exchange) for row, outage in enumerate(scenario.outages)]
    for what, name in places:
        if name and name not in exchanges:
            raise ConfigError(what, name, f"one of {', '.join(exchanges)}, or none")
    for row, outage in enumerate(scenario.outages):
        if outage.kind == "server" and outage.exchange:
            raise ConfigError(f"outages[{row}].exchange", outage.exchange, "none, since the server is one for all")
    for row, edit in enumerate(scenario.edits):
        if edit.campaign_id not in campaigns:
            raise ConfigError(f"edits[{row}].campaign_id", edit.campaign_id, f"one of {', '.join(campaigns)}")
    for row, exchange in enumerate(scenario.exchanges):
        for number, competitor in enumerate(exchange.competitors):
            where = f"exchanges[{row}].competitors[{number}]"
            if competitor.hours and len(competitor.hours) != 24:
                raise ConfigError(f"{where}.hours", f"{len(competitor.hours)} factors", "24, or none")
            if (competitor.kind == "budgeted") != (competitor.daily_budget_micros > 0):
                raise ConfigError(
                    f"{where}.daily_budget_micros", competitor.daily_budget_micros, "above 0 for a budgeted kind only"
                )


def _check_values(scenario: Scenario, keys: Sequence[str]) -> None:
    for key in keys:
        if key not in scenario.values:
            raise ConfigError(f'values."{key}"', None, "how likely its purchases are", "for example {mean = 0.002}")
    for key in scenario.values:
        if key not in keys:
            raise ConfigError("values", key, f"line items that there are: {', '.join(keys)}")


def _check_size(scenario: Scenario, n_lines: int) -> None:
    if not 1 <= n_lines <= MAX_LINES:
        raise ConfigError("campaigns: all their line_items", n_lines, f"1 to {MAX_LINES}")
    most = max((swing.factor for swing in scenario.traffic.swings), default=1.0)
    n_auctions = round(scenario.traffic.requests_per_day * scenario.days)
    for swing in scenario.traffic.swings:
        n_auctions += round(scenario.traffic.requests_per_day * swing.hours / 24 * max(swing.factor - 1.0, 0.0))
    if n_auctions > MAX_AUCTIONS or n_auctions * n_lines > MAX_CELLS:
        expected = f"about {MAX_AUCTIONS:,} auctions, {MAX_CELLS:,} auctions times line items, at most"
        hint = f"fewer days or requests_per_day; the strongest swing is {most:g}"
        raise ConfigError("traffic.requests_per_day", f"{n_auctions:,} auctions", expected, hint)


def _readable(error: msgspec.ValidationError) -> str:
    """msgspec's words, with the field's path as it stands in the file."""
    text, _, place = str(error).partition(" - at `$.")
    return f"{place.rstrip('`')}: {text}" if place else text


def _folder() -> resources.abc.Traversable:
    return resources.files("headrace.simulate").joinpath("scenarios")
