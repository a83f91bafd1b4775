"""What one key of a scenario says against another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from headrace.errors import ConfigError, nearest
from headrace.simulate.scenario import MAX_AUCTIONS, Scenario
from headrace.v1 import campaigns_pb2 as pb

MAX_LINES = 256
MAX_CELLS = 200_000_000
"""Auctions times line items, whose probabilities are held in memory."""
YEARS = (2000, 2100)
LEAST_HOURS = 1 / 60


def check_scenario(scenario: Scenario, campaigns: Sequence[pb.Campaign], keys: Sequence[str]) -> None:
    """Raise ConfigError for the first that does not fit; ``keys`` are the line items as "campaign/line item"."""
    _check_time(scenario, campaigns)
    _check_unique("campaigns", [campaign.campaign_id for campaign in campaigns])
    currencies = sorted({campaign.currency for campaign in campaigns})
    if len(currencies) > 1:
        raise ConfigError(
            "campaigns: their currencies", currencies, "one", "a scenario's exchanges trade in one currency"
        )
    _check_unique("exchanges", [exchange.name for exchange in scenario.exchanges])
    _check_exchanges(scenario)
    _check_events(scenario)
    _check_edits(scenario, [campaign.campaign_id for campaign in campaigns])
    _check_size(scenario, len(keys))
    _check_values(scenario, keys)
    _check_deposits(scenario, {campaign.advertiser_id for campaign in campaigns})


def _check_time(scenario: Scenario, campaigns: Sequence[pb.Campaign]) -> None:
    if not YEARS[0] <= scenario.start.year < YEARS[1]:
        raise ConfigError("start", str(scenario.start), f"a time from {YEARS[0]} on, before {YEARS[1]}")
    if scenario.start_ms % 3_600_000:
        raise ConfigError("start", str(scenario.start), "a full hour", "write start = 2025-03-03T00:00:00Z")
    if (24.0 * scenario.days) % 1.0:
        raise ConfigError("days", scenario.days, "whole hours, such as 0.25 for six")
    if sum(scenario.traffic.hours) == 0.0 or sum(scenario.traffic.weekdays) == 0.0:
        raise ConfigError("traffic.hours and traffic.weekdays", "only zeros", "some hour and some day with traffic")
    for campaign in campaigns:
        where = f"campaign {campaign.campaign_id}"
        if campaign.flight_start_ms >= scenario.end_ms:
            end = f"before the scenario ends at {scenario.end_ms}"
            raise ConfigError(f"{where}: flight_start_ms", campaign.flight_start_ms, end)
        if campaign.flight_end_ms and campaign.flight_end_ms <= scenario.start_ms:
            start = f"after the scenario starts at {scenario.start_ms}"
            raise ConfigError(f"{where}: flight_end_ms", campaign.flight_end_ms, start, "0 leaves it open")


def _check_unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(what, name, "each name once")


def _check_exchanges(scenario: Scenario) -> None:
    for row, exchange in enumerate(scenario.exchanges):
        for number, competitor in enumerate(exchange.competitors):
            where = f"exchanges[{row}].competitors[{number}]"
            if competitor.hours and len(competitor.hours) != 24:
                raise ConfigError(f"{where}.hours", f"{len(competitor.hours)} factors", "24, or none")
            if (competitor.kind == "budgeted") != (competitor.daily_budget_micros > 0):
                raise ConfigError(
                    f"{where}.daily_budget_micros", competitor.daily_budget_micros, "above 0 for a budgeted kind only"
                )


def _check_events(scenario: Scenario) -> None:
    """Swings, shocks and outages: each within the run, a minute or longer, of an exchange that there is."""
    for where, at_hour, hours, _ in _events(scenario):
        _check_hour(scenario, where, at_hour)
        if hours < LEAST_HOURS:
            raise ConfigError(f"{where}.hours", hours, "a minute (0.0167) or more")
    exchanges = [exchange.name for exchange in scenario.exchanges]
    for where, _, _, exchange in _events(scenario):
        if exchange and exchange not in exchanges:
            raise ConfigError(f"{where}.exchange", exchange, f"one of {', '.join(exchanges)}, or none")
    ends_at = -1.0
    for at_hour, row, outage in sorted(
        (outage.at_hour, row, outage) for row, outage in enumerate(scenario.outages) if outage.kind == "server"
    ):
        if outage.exchange:
            raise ConfigError(f"outages[{row}].exchange", outage.exchange, "none, since the server is one for all")
        if scenario.moment(at_hour) < scenario.moment(ends_at):
            raise ConfigError(
                f"outages[{row}].at_hour", at_hour, f"{ends_at:g} or later: the server is down until then"
            )
        ends_at = at_hour + outage.hours


def _events(scenario: Scenario) -> Iterator[tuple[str, float, float, str]]:
    """Where each stands in the file, its beginning and length in hours, and the exchange that it names."""
    for row, swing in enumerate(scenario.traffic.swings):
        yield f"traffic.swings[{row}]", swing.at_hour, swing.hours, ""
    for row, shock in enumerate(scenario.shocks):
        yield f"shocks[{row}]", shock.at_hour, shock.hours, shock.exchange
    for row, outage in enumerate(scenario.outages):
        yield f"outages[{row}]", outage.at_hour, outage.hours, outage.exchange


def _check_edits(scenario: Scenario, campaigns: Sequence[str]) -> None:
    for row, edit in enumerate(scenario.edits):
        where = f"edits[{row}]"
        _check_hour(scenario, where, edit.at_hour)
        if edit.campaign_id not in campaigns:
            raise ConfigError(f"{where}.campaign_id", edit.campaign_id, f"one of {', '.join(campaigns)}")
        if edit.daily_micros is None and edit.lifetime_micros is None and edit.paused is None:
            raise ConfigError(where, "no change", "daily_micros, lifetime_micros or paused")
        for outage in scenario.outages:
            down = scenario.moment(outage.at_hour), scenario.moment(outage.at_hour + outage.hours)
            if outage.kind == "server" and down[0] < scenario.moment(edit.at_hour) < down[1]:
                raise ConfigError(f"{where}.at_hour", edit.at_hour, "a time at which the server is up")


def _check_hour(scenario: Scenario, where: str, at_hour: float) -> None:
    last = 24.0 * scenario.days
    if at_hour > last - LEAST_HOURS:
        raise ConfigError(f"{where}.at_hour", at_hour, f"a minute or more before the end at hour {last:g}")


def _check_values(scenario: Scenario, keys: Sequence[str]) -> None:
    for key in keys:
        if key not in scenario.values:
            raise ConfigError(f'values."{key}"', None, "how likely its purchases are", "for example {mean = 0.002}")
    for key in scenario.values:
        if key not in keys:
            raise ConfigError("values", key, "a line item that there is", nearest(key, keys))


def _check_deposits(scenario: Scenario, advertisers: set[str]) -> None:
    for name, micros in scenario.deposits.items():
        if name not in advertisers:
            raise ConfigError("deposits", name, "an advertiser that has a campaign", nearest(name, advertisers))
        if not micros:
            raise ConfigError(f"deposits.{name}", 0, "above 0", "leave it out for as much as can be spent")


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
