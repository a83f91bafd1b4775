from headrace.v1 import bidder_pb2 as _bidder_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LedgerMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEDGER_MODE_UNSPECIFIED: _ClassVar[LedgerMode]
    LEDGER_MODE_HOLD: _ClassVar[LedgerMode]
    LEDGER_MODE_EXPIRE: _ClassVar[LedgerMode]

class PacingPlan(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_PLAN_UNSPECIFIED: _ClassVar[PacingPlan]
    PACING_PLAN_EVEN: _ClassVar[PacingPlan]
    PACING_PLAN_ASAP: _ClassVar[PacingPlan]
    PACING_PLAN_AHEAD: _ClassVar[PacingPlan]

class PacingMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PACING_MODE_UNSPECIFIED: _ClassVar[PacingMode]
    PACING_MODE_RESOLVE: _ClassVar[PacingMode]
    PACING_MODE_DUAL: _ClassVar[PacingMode]
LEDGER_MODE_UNSPECIFIED: LedgerMode
LEDGER_MODE_HOLD: LedgerMode
LEDGER_MODE_EXPIRE: LedgerMode
PACING_PLAN_UNSPECIFIED: PacingPlan
PACING_PLAN_EVEN: PacingPlan
PACING_PLAN_ASAP: PacingPlan
PACING_PLAN_AHEAD: PacingPlan
PACING_MODE_UNSPECIFIED: PacingMode
PACING_MODE_RESOLVE: PacingMode
PACING_MODE_DUAL: PacingMode

class Targeting(_message.Message):
    __slots__ = ("countries", "categories", "hours", "user_segments", "dayparts")
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    USER_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    DAYPARTS_FIELD_NUMBER: _ClassVar[int]
    countries: _containers.RepeatedScalarFieldContainer[str]
    categories: _containers.RepeatedScalarFieldContainer[str]
    hours: _containers.RepeatedScalarFieldContainer[int]
    user_segments: _containers.RepeatedScalarFieldContainer[str]
    dayparts: _containers.RepeatedCompositeFieldContainer[Daypart]
    def __init__(self, countries: _Optional[_Iterable[str]] = ..., categories: _Optional[_Iterable[str]] = ..., hours: _Optional[_Iterable[int]] = ..., user_segments: _Optional[_Iterable[str]] = ..., dayparts: _Optional[_Iterable[_Union[Daypart, _Mapping]]] = ...) -> None: ...

class Daypart(_message.Message):
    __slots__ = ("weekdays", "start_hour", "end_hour")
    WEEKDAYS_FIELD_NUMBER: _ClassVar[int]
    START_HOUR_FIELD_NUMBER: _ClassVar[int]
    END_HOUR_FIELD_NUMBER: _ClassVar[int]
    weekdays: _containers.RepeatedScalarFieldContainer[int]
    start_hour: int
    end_hour: int
    def __init__(self, weekdays: _Optional[_Iterable[int]] = ..., start_hour: _Optional[int] = ..., end_hour: _Optional[int] = ...) -> None: ...

class Goals(_message.Message):
    __slots__ = ("target_cpa_micros", "target_roas")
    TARGET_CPA_MICROS_FIELD_NUMBER: _ClassVar[int]
    TARGET_ROAS_FIELD_NUMBER: _ClassVar[int]
    target_cpa_micros: int
    target_roas: float
    def __init__(self, target_cpa_micros: _Optional[int] = ..., target_roas: _Optional[float] = ...) -> None: ...

class Guarantee(_message.Message):
    __slots__ = ("impressions", "daily_impressions", "penalty_cpm_micros")
    IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    DAILY_IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    PENALTY_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    impressions: int
    daily_impressions: int
    penalty_cpm_micros: int
    def __init__(self, impressions: _Optional[int] = ..., daily_impressions: _Optional[int] = ..., penalty_cpm_micros: _Optional[int] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("lifetime_micros", "daily_micros")
    LIFETIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    DAILY_MICROS_FIELD_NUMBER: _ClassVar[int]
    lifetime_micros: int
    daily_micros: int
    def __init__(self, lifetime_micros: _Optional[int] = ..., daily_micros: _Optional[int] = ...) -> None: ...

class LineItem(_message.Message):
    __slots__ = ("line_item_id", "limits", "targeting", "item_ids", "action_worth_micros", "max_bid_cpm_micros", "goals", "guarantee", "strategy", "strategy_parameters")
    LINE_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TARGETING_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    ACTION_WORTH_MICROS_FIELD_NUMBER: _ClassVar[int]
    MAX_BID_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    GOALS_FIELD_NUMBER: _ClassVar[int]
    GUARANTEE_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    line_item_id: str
    limits: Limits
    targeting: Targeting
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    action_worth_micros: int
    max_bid_cpm_micros: int
    goals: Goals
    guarantee: Guarantee
    strategy: str
    strategy_parameters: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, line_item_id: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., targeting: _Optional[_Union[Targeting, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., action_worth_micros: _Optional[int] = ..., max_bid_cpm_micros: _Optional[int] = ..., goals: _Optional[_Union[Goals, _Mapping]] = ..., guarantee: _Optional[_Union[Guarantee, _Mapping]] = ..., strategy: _Optional[str] = ..., strategy_parameters: _Optional[_Iterable[float]] = ...) -> None: ...

class Campaign(_message.Message):
    __slots__ = ("campaign_id", "advertiser_id", "name", "currency", "time_zone", "flight_start_ms", "flight_end_ms", "limits", "line_items", "paused", "ledger_mode", "pacing_plan", "goals", "ahead_share")
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_START_MS_FIELD_NUMBER: _ClassVar[int]
    FLIGHT_END_MS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    LINE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    LEDGER_MODE_FIELD_NUMBER: _ClassVar[int]
    PACING_PLAN_FIELD_NUMBER: _ClassVar[int]
    GOALS_FIELD_NUMBER: _ClassVar[int]
    AHEAD_SHARE_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    advertiser_id: str
    name: str
    currency: str
    time_zone: str
    flight_start_ms: int
    flight_end_ms: int
    limits: Limits
    line_items: _containers.RepeatedCompositeFieldContainer[LineItem]
    paused: bool
    ledger_mode: LedgerMode
    pacing_plan: PacingPlan
    goals: Goals
    ahead_share: float
    def __init__(self, campaign_id: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., name: _Optional[str] = ..., currency: _Optional[str] = ..., time_zone: _Optional[str] = ..., flight_start_ms: _Optional[int] = ..., flight_end_ms: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., line_items: _Optional[_Iterable[_Union[LineItem, _Mapping]]] = ..., paused: _Optional[bool] = ..., ledger_mode: _Optional[_Union[LedgerMode, str]] = ..., pacing_plan: _Optional[_Union[PacingPlan, str]] = ..., goals: _Optional[_Union[Goals, _Mapping]] = ..., ahead_share: _Optional[float] = ...) -> None: ...

class Account(_message.Message):
    __slots__ = ("account_id", "budget_in_force_micros", "billed_micros", "won_micros", "reserved_micros", "lease_unused_micros", "late_micros", "disputed_micros", "stranded_micros")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    BUDGET_IN_FORCE_MICROS_FIELD_NUMBER: _ClassVar[int]
    BILLED_MICROS_FIELD_NUMBER: _ClassVar[int]
    WON_MICROS_FIELD_NUMBER: _ClassVar[int]
    RESERVED_MICROS_FIELD_NUMBER: _ClassVar[int]
    LEASE_UNUSED_MICROS_FIELD_NUMBER: _ClassVar[int]
    LATE_MICROS_FIELD_NUMBER: _ClassVar[int]
    DISPUTED_MICROS_FIELD_NUMBER: _ClassVar[int]
    STRANDED_MICROS_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    budget_in_force_micros: int
    billed_micros: int
    won_micros: int
    reserved_micros: int
    lease_unused_micros: int
    late_micros: int
    disputed_micros: int
    stranded_micros: int
    def __init__(self, account_id: _Optional[str] = ..., budget_in_force_micros: _Optional[int] = ..., billed_micros: _Optional[int] = ..., won_micros: _Optional[int] = ..., reserved_micros: _Optional[int] = ..., lease_unused_micros: _Optional[int] = ..., late_micros: _Optional[int] = ..., disputed_micros: _Optional[int] = ..., stranded_micros: _Optional[int] = ...) -> None: ...

class CampaignStatus(_message.Message):
    __slots__ = ("campaign", "accounts", "planned_spend_micros", "pacing_multiplier", "line_items")
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_SPEND_MICROS_FIELD_NUMBER: _ClassVar[int]
    PACING_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    LINE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    planned_spend_micros: int
    pacing_multiplier: float
    line_items: _containers.RepeatedCompositeFieldContainer[LineItemStatus]
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ..., accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., planned_spend_micros: _Optional[int] = ..., pacing_multiplier: _Optional[float] = ..., line_items: _Optional[_Iterable[_Union[LineItemStatus, _Mapping]]] = ...) -> None: ...

class LineItemStatus(_message.Message):
    __slots__ = ("line_item_id", "multiplier", "premium_cpm_micros", "won_impressions", "won_impressions_today", "won_worth_micros", "mode")
    LINE_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    WON_IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    WON_IMPRESSIONS_TODAY_FIELD_NUMBER: _ClassVar[int]
    WON_WORTH_MICROS_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    line_item_id: str
    multiplier: float
    premium_cpm_micros: int
    won_impressions: int
    won_impressions_today: int
    won_worth_micros: int
    mode: PacingMode
    def __init__(self, line_item_id: _Optional[str] = ..., multiplier: _Optional[float] = ..., premium_cpm_micros: _Optional[int] = ..., won_impressions: _Optional[int] = ..., won_impressions_today: _Optional[int] = ..., won_worth_micros: _Optional[int] = ..., mode: _Optional[_Union[PacingMode, str]] = ...) -> None: ...

class FundAdvertiserRequest(_message.Message):
    __slots__ = ("entry_id", "advertiser_id", "amount_micros", "currency")
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_MICROS_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    entry_id: str
    advertiser_id: str
    amount_micros: int
    currency: str
    def __init__(self, entry_id: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., amount_micros: _Optional[int] = ..., currency: _Optional[str] = ...) -> None: ...

class FundAdvertiserResponse(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: Account
    def __init__(self, account: _Optional[_Union[Account, _Mapping]] = ...) -> None: ...

class CreateCampaignRequest(_message.Message):
    __slots__ = ("campaign",)
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ...) -> None: ...

class CreateCampaignResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: CampaignStatus
    def __init__(self, status: _Optional[_Union[CampaignStatus, _Mapping]] = ...) -> None: ...

class UpdateCampaignRequest(_message.Message):
    __slots__ = ("campaign",)
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ...) -> None: ...

class UpdateCampaignResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: CampaignStatus
    def __init__(self, status: _Optional[_Union[CampaignStatus, _Mapping]] = ...) -> None: ...

class PauseCampaignRequest(_message.Message):
    __slots__ = ("campaign_id", "resume")
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    resume: bool
    def __init__(self, campaign_id: _Optional[str] = ..., resume: _Optional[bool] = ...) -> None: ...

class PauseCampaignResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: CampaignStatus
    def __init__(self, status: _Optional[_Union[CampaignStatus, _Mapping]] = ...) -> None: ...

class ListCampaignsRequest(_message.Message):
    __slots__ = ("advertiser_id", "campaign_ids")
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_IDS_FIELD_NUMBER: _ClassVar[int]
    advertiser_id: str
    campaign_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, advertiser_id: _Optional[str] = ..., campaign_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ListCampaignsResponse(_message.Message):
    __slots__ = ("campaigns", "advertisers")
    CAMPAIGNS_FIELD_NUMBER: _ClassVar[int]
    ADVERTISERS_FIELD_NUMBER: _ClassVar[int]
    campaigns: _containers.RepeatedCompositeFieldContainer[CampaignStatus]
    advertisers: _containers.RepeatedCompositeFieldContainer[Account]
    def __init__(self, campaigns: _Optional[_Iterable[_Union[CampaignStatus, _Mapping]]] = ..., advertisers: _Optional[_Iterable[_Union[Account, _Mapping]]] = ...) -> None: ...

class SetBrakeRequest(_message.Message):
    __slots__ = ("exchange", "advertiser_id", "engaged", "reason")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    ENGAGED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    exchange: str
    advertiser_id: str
    engaged: bool
    reason: str
    def __init__(self, exchange: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., engaged: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class SetBrakeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SetFenceRequest(_message.Message):
    __slots__ = ("engaged", "reason")
    ENGAGED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    engaged: bool
    reason: str
    def __init__(self, engaged: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class SetFenceResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseReservationRequest(_message.Message):
    __slots__ = ("token", "lease_id", "price_cpm_micros", "reason")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    token: str
    lease_id: int
    price_cpm_micros: int
    reason: str
    def __init__(self, token: _Optional[str] = ..., lease_id: _Optional[int] = ..., price_cpm_micros: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class CloseReservationResponse(_message.Message):
    __slots__ = ("outcome",)
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    outcome: _bidder_pb2.NoticeOutcome
    def __init__(self, outcome: _Optional[_Union[_bidder_pb2.NoticeOutcome, str]] = ...) -> None: ...
