"""What a rerun changes: bidding settings, campaigns and line items, from a TOML file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.bidding.settings import BiddingConfig
from headrace.errors import ConfigError, nearest
from headrace.v1 import campaigns_pb2 as pb
from headrace.wording import wrong_value
from headrace_training.toml import read_toml

SOLVE_EVERY_MS = 30_000
"""A day runs through in seconds then, and paces as it does with a solution a second."""

PLANS = {"even": pb.PACING_PLAN_EVEN, "asap": pb.PACING_PLAN_ASAP, "ahead": pb.PACING_PLAN_AHEAD}


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of one campaign or line item; what is left out stays as recorded. Amounts are micros."""

    lifetime_micros: int | None = None
    daily_micros: int | None = None
    multiplier: float | None = None
    """Bid value times this, at any time, in place of pacing."""
    paused: bool | None = None
    pacing_plan: Literal["even", "asap", "ahead"] | None = None
    max_bid_cpm_micros: int | None = None
    action_worth_micros: int | None = None

    def __post_init__(self) -> None:
        for name in ("lifetime_micros", "daily_micros", "max_bid_cpm_micros", "action_worth_micros"):
            amount = getattr(self, name)
            if amount is not None and not 0 <= amount <= 10**16:
                raise ValueError(f"{name}: got {amount}, expected micros from 0 to 10000000000000000")
        if self.multiplier is not None and not 0.0 <= self.multiplier <= 16.0:
            raise ValueError(f"multiplier: got {self.multiplier}, expected a number from 0 to 16")


OF_CAMPAIGNS = {"lifetime_micros", "daily_micros", "multiplier", "paused", "pacing_plan"}
OF_LINE_ITEMS = {"lifetime_micros", "daily_micros", "multiplier", "max_bid_cpm_micros", "action_worth_micros"}


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to bid on what was recorded.

    shade : in first-price auctions; without it the paced value is bid.   bidding : settings of [bidding] by name.
    campaigns, line_items : changes by "campaign" and "campaign/line item"; "*" for all others.
    """

    shade: bool = True
    bidding: dict[str, Any] = {}
    campaigns: dict[str, Change] = {}
    line_items: dict[str, Change] = {}

    def config(self, max_bid_cpm: int) -> BiddingConfig:
        """The bidding settings; unless set, the highest bid is the recorded one and the pacer solves more rarely."""
        defaults = {"max_bid_cpm_micros": max_bid_cpm, "solve_every_ms": SOLVE_EVERY_MS}
        return msgspec.convert(defaults | self.bidding, BiddingConfig)

    def apply(self, campaigns: Sequence[pb.Campaign]) -> list[pb.Campaign]:
        """Copies of the campaigns with all changes."""
        return [self._changed(campaign) for campaign in campaigns]

    def _changed(self, campaign: pb.Campaign) -> pb.Campaign:
        result = pb.Campaign()
        result.CopyFrom(campaign)
        change = self.campaigns.get(campaign.campaign_id) or self.campaigns.get("*") or Change()
        _set_limits(result.limits, change)
        if change.paused is not None:
            result.paused = change.paused
        if change.pacing_plan is not None:
            result.pacing_plan = PLANS[change.pacing_plan]
        names = [f"{campaign.campaign_id}/{line.line_item_id}" for line in result.line_items]
        of_lines = [self.line_items.get(name) or self.line_items.get("*") or Change() for name in names]
        if change.multiplier is not None or any(each.multiplier is not None for each in of_lines):
            result.pacing_plan = pb.PACING_PLAN_ASAP
        for line, of_line in zip(result.line_items, of_lines, strict=True):
            _change_line(line, of_line, change.multiplier)
        return result


def read_parameters(path: Path | None) -> Parameters:
    """The parameters of a file, those of the recording without one.

    Raises ConfigError naming the key that is unknown or whose value is wrong.
    """
    values = read_toml(path, "docs/explain.md")
    try:
        parameters = msgspec.convert(values, Parameters)
    except msgspec.ValidationError as error:
        said = wrong_value(error, values, Parameters)
        raise ConfigError(f"{path}: {said}", hint="see docs/explain.md for an example") from error
    _check_keys(path, parameters)
    try:
        parameters.config(1)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: bidding.{wrong_value(error, parameters.bidding, BiddingConfig)}") from error
    return parameters


def _check_keys(path: Path | None, parameters: Parameters) -> None:
    """Keys that campaigns or line items do not have, and settings that there are not."""
    for kind, changes, known in (
        ("campaigns", parameters.campaigns, OF_CAMPAIGNS),
        ("line_items", parameters.line_items, OF_LINE_ITEMS),
    ):
        for name, change in changes.items():
            for key in msgspec.structs.asdict(change):
                if key not in known and getattr(change, key) is not None:
                    raise ConfigError(f"{path}: {kind}.{name}", key, ", ".join(sorted(known)))
    settings = [entry.name for entry in dataclasses.fields(BiddingConfig)]
    for name in sorted(parameters.bidding.keys() - set(settings)):
        raise ConfigError(f"{path}: bidding", name, "a key of the section [bidding]", nearest(name, settings))


def check_names(path: Path | None, parameters: Parameters, campaigns: Sequence[pb.Campaign]) -> None:
    """Raise ConfigError for a change of a campaign or line item that is none of these; "*" is always one."""
    names = {each.campaign_id for each in campaigns}
    lines = {f"{each.campaign_id}/{line.line_item_id}" for each in campaigns for line in each.line_items}
    for kind, changes, known in (
        ("campaigns", parameters.campaigns, names),
        ("line_items", parameters.line_items, lines),
    ):
        for name in changes:
            if name != "*" and name not in known:
                raise ConfigError(f"{path}: {kind}", name, "a name that is recorded, or *", nearest(name, known))


def _set_limits(limits: pb.Limits, change: Change) -> None:
    if change.lifetime_micros is not None:
        limits.lifetime_micros = change.lifetime_micros
    if change.daily_micros is not None:
        limits.daily_micros = change.daily_micros


def _change_line(line: pb.LineItem, change: Change, of_campaign: float | None) -> None:
    _set_limits(line.limits, change)
    if change.max_bid_cpm_micros is not None:
        line.max_bid_cpm_micros = change.max_bid_cpm_micros
    if change.action_worth_micros is not None:
        line.action_worth_micros = change.action_worth_micros
    multiplier = change.multiplier if change.multiplier is not None else of_campaign
    if multiplier is not None:
        line.action_worth_micros = round(line.action_worth_micros * multiplier)
