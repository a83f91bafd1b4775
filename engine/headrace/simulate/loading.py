"""From a scenario file to a checked scenario and its campaigns."""

from __future__ import annotations

import dataclasses
import datetime as dt
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import msgspec
from google.protobuf.json_format import ParseDict, ParseError

from headrace.bidding.board import line_account
from headrace.bidding.validation import checked_campaign
from headrace.errors import ConfigError, InvalidRequestError
from headrace.simulate.checks import check_scenario
from headrace.simulate.scenario import Scenario
from headrace.v1 import campaigns_pb2 as pb
from headrace.wording import wrong_value


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
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the scenario {name} is not TOML: {error}") from error
    values |= {} if seed is None else {"seed": seed}
    try:
        scenario = msgspec.convert(values, Scenario)
    except msgspec.ValidationError as error:
        said = wrong_value(error, values, Scenario)
        raise ConfigError(f"the scenario {name}: {said}", hint="docs/simulate.md has every key") from error
    return make_plan(scenario)


def make_plan(scenario: Scenario) -> Plan:
    """Check what one key says against another; ConfigError names the first that does not fit."""
    if scenario.start.tzinfo is None:
        scenario = msgspec.structs.replace(scenario, start=scenario.start.replace(tzinfo=dt.UTC))
    campaigns = sorted(_campaigns(scenario), key=lambda campaign: campaign.campaign_id)
    lines = [(i, j) for i, campaign in enumerate(campaigns) for j in range(len(campaign.line_items))]
    keys = [f"{campaigns[i].campaign_id}/{campaigns[i].line_items[j].line_item_id}" for i, j in lines]
    check_scenario(scenario, campaigns, keys)
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
            said = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(f"{where}: {said}", hint="its fields are those of Campaign in campaigns.proto") from error
        for line in campaign.line_items:
            if line.item_ids:
                raise ConfigError(f"{where}: item_ids", list(line.item_ids), "none", "values says how they sell")
            line.item_ids.append("item")
        try:
            yield checked_campaign(campaign)
        except InvalidRequestError as error:
            raise ConfigError(f"{where}: {error}") from error


def _folder() -> resources.abc.Traversable:
    return resources.files("headrace.simulate").joinpath("scenarios")
