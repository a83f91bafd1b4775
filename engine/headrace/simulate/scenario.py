"""What a scenario file may say; times are hours since its start, prices micros per thousand impressions (CPM)."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Hours = Annotated[float, Meta(ge=0.0, le=24.0 * 366)]
Factor = Annotated[float, Meta(gt=0.0, le=1000.0)]
Factors = list[Annotated[float, Meta(ge=0.0, le=1000.0)]]
Cpm = Annotated[int, Meta(ge=0, le=10**12)]
PositiveCpm = Annotated[int, Meta(ge=1, le=10**12)]
DelayMs = Annotated[int, Meta(ge=0, le=7 * 86_400_000)]
Money = Annotated[int, Meta(ge=0, le=10**16)]
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$")]

MAX_AUCTIONS = 20_000_000


class Part(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a key that it does not know is an error."""


class Swing(Part, frozen=True):
    """Traffic is ``factor`` times what it would be, for ``hours`` from ``at_hour`` on."""

    at_hour: Hours
    hours: Hours
    factor: Factor


class Traffic(Part, frozen=True):
    """When requests come: so many a day on average, by hour of the UTC day and by weekday, Monday first."""

    requests_per_day: Annotated[int, Meta(ge=1, le=MAX_AUCTIONS)]
    hours: Annotated[Factors, Meta(min_length=24, max_length=24)] = field(default_factory=lambda: [1.0] * 24)
    weekdays: Annotated[Factors, Meta(min_length=7, max_length=7)] = field(default_factory=lambda: [1.0] * 7)
    swings: list[Swing] = field(default_factory=list)


class Competitor(Part, frozen=True):
    """Bidders whose values are log-normal, in a share ``present`` of the auctions of an exchange.

    ``truthful`` ones bid their value, ``shading`` ones ``shade`` of it, ``budgeted`` ones (who shade, too, where
    ``shade`` says so) leave for the rest of the UTC day once they have spent ``daily_budget_micros``.
    """

    kind: Literal["truthful", "shading", "budgeted"]
    median_cpm_micros: PositiveCpm
    sigma: Annotated[float, Meta(ge=0.0, le=5.0)]
    bidders: Annotated[int, Meta(ge=1, le=1000)] = 1
    present: Share = 1.0
    shade: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    daily_budget_micros: Money = 0
    hours: Annotated[Factors, Meta(max_length=24)] = field(default_factory=list)


class Notices(Part, frozen=True):
    """How an exchange tells of wins, bills and losses: after an exponential delay, not always, sometimes twice.

    ``minimum_to_win``: win and loss notices name the lowest bid that would have won.
    """

    delay_ms: DelayMs = 0
    billing_delay_ms: DelayMs = 0
    wins_lost: Share = 0.0
    bills_lost: Share = 0.0
    losses_lost: Share = 0.0
    twice: Share = 0.0
    minimum_to_win: bool = False


class Exchange(Part, frozen=True):
    """Where auctions are held: a share of all requests, one impression each.

    ``fee`` is the part of a bid that the exchange keeps before bids are compared.   ``countries``, ``categories``:
    the request's, by share.
    """

    name: Name
    competitors: Annotated[list[Competitor], Meta(min_length=1, max_length=64)]
    share: Annotated[float, Meta(gt=0.0, le=1000.0)] = 1.0
    auction: Literal["second_price", "first_price"] = "second_price"
    floor_cpm_micros: Cpm = 0
    fee: Annotated[float, Meta(ge=0.0, le=0.9)] = 0.0
    placement: Annotated[str, Meta(max_length=64)] = ""
    notices: Notices = field(default_factory=Notices)
    countries: dict[Country, Factor] = field(default_factory=dict)
    categories: dict[Name, Factor] = field(default_factory=dict)


class Shock(Part, frozen=True):
    """Competitors bid ``factor`` times as much, on one exchange or on all."""

    at_hour: Hours
    hours: Hours
    factor: Factor
    exchange: str = ""


class Outage(Part, frozen=True):
    """Something is silent for a while.

    ``exchange``: one exchange, or all, sends no requests.   ``notices``: what it has to tell comes afterwards.
    ``server``: we do not answer; the process ends as by SIGTERM and starts anew, and notices wait for it.
    """

    at_hour: Hours
    hours: Hours
    kind: Literal["exchange", "notices", "server"]
    exchange: str = ""


class Edit(Part, frozen=True):
    """What somebody changes of a campaign while it runs; what is left out stays."""

    at_hour: Hours
    campaign_id: Name
    daily_micros: Money | None = None
    lifetime_micros: Money | None = None
    paused: bool | None = None


class Value(Part, frozen=True):
    """How likely a purchase is after an impression of a line item: log-normal with this mean, at most 1.

    ``really`` is the part of the predicted probability that is true.
    """

    mean: Annotated[float, Meta(gt=0.0, le=1.0)]
    sigma: Annotated[float, Meta(ge=0.0, le=5.0)] = 0.7
    really: Annotated[float, Meta(ge=0.0, le=10.0)] = 1.0


class Knowledge(Part, frozen=True):
    """What the bidder knows beforehand, as if an artifact had been trained on the days before.

    ``traffic``: the true profile, or a flat one.   ``prices``: a sample of the market's prices, or none;
    ``price_factor`` times too high.
    """

    traffic: Literal["right", "flat"] = "right"
    prices: Literal["right", "none"] = "right"
    price_factor: Factor = 1.0


class Scenario(Part, frozen=True):
    """A whole file. ``campaigns`` are messages `headrace.v1.Campaign` as protobuf's JSON; ``values`` by
    "campaign/line item"; ``deposits`` by advertiser, micros, as much as anybody can spend where none is named.
    ``purchase_delay_hours`` after its impression, on average, a purchase is reported to the bidder; left out: never.
    """

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    traffic: Traffic
    exchanges: Annotated[list[Exchange], Meta(min_length=1, max_length=64)]
    campaigns: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=64)]
    start: dt.datetime = dt.datetime(2025, 3, 3, tzinfo=dt.UTC)
    days: Annotated[float, Meta(gt=0.0, le=366.0)] = 1.0
    seed: Annotated[int, Meta(ge=0, le=2**62)] = 0
    values: dict[str, Value] = field(default_factory=dict)
    deposits: dict[str, Money] = field(default_factory=dict)
    purchase_delay_hours: Hours | None = None
    shocks: list[Shock] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    knowledge: Knowledge = field(default_factory=Knowledge)

    @property
    def start_ms(self) -> int:
        return round(self.start.timestamp() * 1000)

    @property
    def end_ms(self) -> int:
        return self.moment(24.0 * self.days)

    def moment(self, hour: float) -> int:
        """The time of an hour since the start, ms since 1970 UTC."""
        return self.start_ms + round(hour * 3_600_000)
