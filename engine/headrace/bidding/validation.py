"""What a campaign may say; everything past this point relies on it."""

from __future__ import annotations

import functools
import math
import re
import zoneinfo
from collections.abc import Iterable, Sequence

from headrace.bidding.strategies.grammar import MAX_PARAMETERS
from headrace.errors import InvalidRequestError
from headrace.v1 import campaigns_pb2 as pb

MAX_MICROS = 10**16
MAX_TIME_MS = 253_402_300_799_999
MAX_LINE_ITEMS = 1000
MAX_ITEMS = 1000
MAX_TERMS = 1000
MAX_NAME_BYTES = 256
MAX_DAYPARTS = 168
MAX_IMPRESSIONS = 10**12
MAX_ROAS = 1e6
ALL_DAY = (1 << 24) - 1
ALL_WEEK = (1 << 168) - 1
DEFAULT_CURRENCY = "USD"
DEFAULT_ZONE = "UTC"

_CURRENCY = re.compile(r"[A-Z]{3}")
_COUNTRY = re.compile(r"[A-Z]{2}")


def checked_campaign(campaign: pb.Campaign) -> pb.Campaign:
    """A copy with currency and zone filled in; raises InvalidRequestError naming the first wrong field."""
    result = pb.Campaign()
    result.CopyFrom(campaign)
    check_node_id("campaign_id", result.campaign_id)
    check_node_id("advertiser_id", result.advertiser_id)
    check_text("name", result.name, MAX_NAME_BYTES, empty=True)
    result.currency = checked_currency(result.currency)
    result.time_zone = result.time_zone or DEFAULT_ZONE
    if result.time_zone not in _zone_names():
        raise InvalidRequestError("time_zone", result.time_zone, "an IANA name such as Europe/Berlin", "empty: UTC")
    _check_flight(result)
    _check_limits("limits", result.limits)
    _check_enum("ledger_mode", result.ledger_mode, pb.LedgerMode.values())
    _check_enum("pacing_plan", result.pacing_plan, pb.PacingPlan.values())
    _check_ahead(result)
    _check_goals("goals", result.goals)
    _check_count("line_items", result.line_items, 0, MAX_LINE_ITEMS)
    for line in result.line_items:
        _check_line_item(line)
        if line.guarantee.impressions and not result.flight_end_ms:
            raise InvalidRequestError(
                f"line item {line.line_item_id}: guarantee.impressions",
                line.guarantee.impressions,
                "a campaign with flight_end_ms",
                "they are due by the end of the flight; promise daily_impressions instead, or end the flight",
            )
    _check_unique("line_item_id", [line.line_item_id for line in result.line_items])
    return result


def checked_currency(currency: str) -> str:
    """The currency, USD when it is empty."""
    currency = currency or DEFAULT_CURRENCY
    if not _CURRENCY.fullmatch(currency):
        raise InvalidRequestError("currency", currency, "an ISO 4217 code of three capitals, or nothing for USD")
    return currency


def check_text(what: str, text: str, max_bytes: int, *, empty: bool = False) -> None:
    """Raises InvalidRequestError unless the text is at most max_bytes of UTF-8, and not empty where that matters."""
    if len(text) * 4 > max_bytes and len(text.encode()) > max_bytes:
        raise InvalidRequestError(what, f"{len(text.encode())} bytes", f"at most {max_bytes} bytes", "shorten it")
    if not text and not empty:
        raise InvalidRequestError(what, "", f"1 to {max_bytes} bytes", "it is needed to name the thing")


def check_node_id(what: str, text: str) -> None:
    """An id that becomes part of an account's name: 1 to 64 bytes, printable, without a slash."""
    check_text(what, text, 64)
    if "/" in text or not text.isprintable():
        raise InvalidRequestError(what, text, "printable characters without '/'", "'/' separates accounts' names")


def check_micros(what: str, amount: int) -> None:
    """Money that may be zero but not negative."""
    if not 0 <= amount <= MAX_MICROS:
        raise InvalidRequestError(what, amount, f"0 to {MAX_MICROS} micros", "a million micros are one unit")


def _check_flight(campaign: pb.Campaign) -> None:
    for what in ("flight_start_ms", "flight_end_ms"):
        if not 0 <= getattr(campaign, what) <= MAX_TIME_MS:
            raise InvalidRequestError(what, getattr(campaign, what), "ms since 1970 UTC, up to the year 9999")
    if campaign.flight_end_ms and campaign.flight_end_ms <= campaign.flight_start_ms:
        raise InvalidRequestError(
            "flight_end_ms", campaign.flight_end_ms, "later than flight_start_ms", "zero leaves the end open"
        )


def _check_limits(where: str, limits: pb.Limits) -> None:
    if limits.HasField("lifetime_micros"):
        check_micros(f"{where}.lifetime_micros", limits.lifetime_micros)
    if limits.HasField("daily_micros"):
        check_micros(f"{where}.daily_micros", limits.daily_micros)


def _check_line_item(line: pb.LineItem) -> None:
    check_node_id("line_item_id", line.line_item_id)
    where = f"line item {line.line_item_id}"
    _check_limits(f"{where}: limits", line.limits)
    check_micros(f"{where}: action_worth_micros", line.action_worth_micros)
    check_micros(f"{where}: max_bid_cpm_micros", line.max_bid_cpm_micros)
    _check_count(f"{where}: item_ids", line.item_ids, 1, MAX_ITEMS)
    for item_id in line.item_ids:
        check_text(f"{where}: item_ids", item_id, 256)
    _check_unique(f"{where}: item_ids", line.item_ids)
    _check_count(f"{where}: strategy_parameters", line.strategy_parameters, 0, MAX_PARAMETERS)
    if line.strategy_parameters and not line.strategy:
        raise InvalidRequestError(f"{where}: strategy_parameters", len(line.strategy_parameters), "a strategy, too")
    _check_targeting(where, line.targeting)
    _check_goals(f"{where}: goals", line.goals)
    if line.HasField("guarantee"):
        _check_guarantee(f"{where}: guarantee", line.guarantee)


def _check_ahead(campaign: pb.Campaign) -> None:
    share = campaign.ahead_share
    if share and campaign.pacing_plan != pb.PACING_PLAN_AHEAD:
        raise InvalidRequestError("ahead_share", share, "0 unless pacing_plan is AHEAD", "choose the plan AHEAD")
    if share and not 0.5 <= share <= 0.99:
        raise InvalidRequestError("ahead_share", share, "0.5 to 0.99, or 0 for 0.7", "a share, not per cent")


def _check_goals(where: str, goals: pb.Goals) -> None:
    check_micros(f"{where}.target_cpa_micros", goals.target_cpa_micros)
    if not (math.isfinite(goals.target_roas) and 0.0 <= goals.target_roas <= MAX_ROAS):
        raise InvalidRequestError(
            f"{where}.target_roas", goals.target_roas, f"0 to {MAX_ROAS:g}", "worth per unit of money spent: 4 is 400 %"
        )


def _check_guarantee(where: str, guarantee: pb.Guarantee) -> None:
    for what in ("impressions", "daily_impressions"):
        if not 0 <= getattr(guarantee, what) <= MAX_IMPRESSIONS:
            raise InvalidRequestError(f"{where}.{what}", getattr(guarantee, what), f"0 to {MAX_IMPRESSIONS}")
    if not guarantee.impressions and not guarantee.daily_impressions:
        raise InvalidRequestError(
            where, "no impressions", "impressions or daily_impressions above 0", "or leave the guarantee out"
        )
    if not 0 < guarantee.penalty_cpm_micros <= MAX_MICROS:
        raise InvalidRequestError(
            f"{where}.penalty_cpm_micros",
            guarantee.penalty_cpm_micros,
            f"1 to {MAX_MICROS}",
            "it bounds what may be paid above an impression's value",
        )


def _check_daypart(where: str, daypart: pb.Daypart) -> None:
    for day in daypart.weekdays:
        if not 1 <= day <= 7:
            raise InvalidRequestError(f"{where}: dayparts.weekdays", day, "1 (Monday) to 7 (Sunday)")
    if len(set(daypart.weekdays)) != len(daypart.weekdays):
        raise InvalidRequestError(f"{where}: dayparts.weekdays", list(daypart.weekdays), "each day once")
    if not daypart.start_hour < daypart.end_hour <= 24:
        raise InvalidRequestError(
            f"{where}: dayparts",
            f"{daypart.start_hour} to {daypart.end_hour}",
            "start_hour < end_hour <= 24",
            "a night is two dayparts: until 24, and from 0",
        )


def _check_targeting(where: str, targeting: pb.Targeting) -> None:
    for country in targeting.countries:
        if not _COUNTRY.fullmatch(country):
            raise InvalidRequestError(f"{where}: countries", country, "ISO 3166-1 alpha-2 in upper case")
    for hour in targeting.hours:
        if hour > 23:
            raise InvalidRequestError(f"{where}: hours", hour, "0 to 23", "hours of the campaign's local day")
    for what in ("categories", "user_segments"):
        for word in getattr(targeting, what):
            check_text(f"{where}: {what}", word, 64)
    for what in ("countries", "categories", "hours", "user_segments"):
        _check_count(f"{where}: {what}", getattr(targeting, what), 0, MAX_TERMS)
    _check_count(f"{where}: dayparts", targeting.dayparts, 0, MAX_DAYPARTS)
    for daypart in targeting.dayparts:
        _check_daypart(where, daypart)
    if not week_bits(targeting):
        raise InvalidRequestError(
            f"{where}: dayparts", "hours and dayparts without a common hour", "one hour at least in both"
        )


def week_bits(targeting: pb.Targeting) -> int:
    """The hours of the local week at which a line item runs: bit 24 * weekday + hour, Monday is 0; checked hours."""
    day = sum(1 << hour for hour in set(targeting.hours)) or ALL_DAY
    hours = sum(day << 24 * weekday for weekday in range(7))
    if not targeting.dayparts:
        return hours
    parts = 0
    for part in targeting.dayparts:
        stretch = (1 << part.end_hour) - (1 << part.start_hour)
        for weekday in part.weekdays or range(1, 8):
            parts |= stretch << 24 * (weekday - 1)
    return hours & parts


def _check_count(what: str, values: Sequence[object], least: int, most: int) -> None:
    if not least <= len(values) <= most:
        raise InvalidRequestError(what, f"{len(values)} entries", f"{least} to {most}")


def _check_unique(what: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequestError(what, name, "each name once")
        seen.add(name)


def _check_enum(what: str, value: int, known: Iterable[int]) -> None:
    if value not in known:
        raise InvalidRequestError(what, value, "a value of the contract's list", "the client may be newer than this")


@functools.cache
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())
