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
LEDGER_MODE_UNSPECIFIED: LedgerMode
LEDGER_MODE_HOLD: LedgerMode
LEDGER_MODE_EXPIRE: LedgerMode
PACING_PLAN_UNSPECIFIED: PacingPlan
PACING_PLAN_EVEN: PacingPlan
PACING_PLAN_ASAP: PacingPlan

class Targeting(_message.Message):
    __slots__ = ("countries", "categories", "hours", "user_segments")
    COUNTRIES_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    HOURS_FIELD_NUMBER: _ClassVar[int]
    USER_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    countries: _containers.RepeatedScalarFieldContainer[str]
    categories: _containers.RepeatedScalarFieldContainer[str]
    hours: _containers.RepeatedScalarFieldContainer[int]
    user_segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, countries: _Optional[_Iterable[str]] = ..., categories: _Optional[_Iterable[str]] = ..., hours: _Optional[_Iterable[int]] = ..., user_segments: _Optional[_Iterable[str]] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("lifetime_micros", "daily_micros")
    LIFETIME_MICROS_FIELD_NUMBER: _ClassVar[int]
    DAILY_MICROS_FIELD_NUMBER: _ClassVar[int]
    lifetime_micros: int
    daily_micros: int
    def __init__(self, lifetime_micros: _Optional[int] = ..., daily_micros: _Optional[int] = ...) -> None: ...

class LineItem(_message.Message):
    __slots__ = ("line_item_id", "limits", "targeting", "item_ids", "action_worth_micros", "max_bid_cpm_micros")
    LINE_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    TARGETING_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    ACTION_WORTH_MICROS_FIELD_NUMBER: _ClassVar[int]
    MAX_BID_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    line_item_id: str
    limits: Limits
    targeting: Targeting
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    action_worth_micros: int
    max_bid_cpm_micros: int
    def __init__(self, line_item_id: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., targeting: _Optional[_Union[Targeting, _Mapping]] = ..., item_ids: _Optional[_Iterable[str]] = ..., action_worth_micros: _Optional[int] = ..., max_bid_cpm_micros: _Optional[int] = ...) -> None: ...

class Campaign(_message.Message):
    __slots__ = ("campaign_id", "advertiser_id", "name", "currency", "time_zone", "flight_start_ms", "flight_end_ms", "limits", "line_items", "paused", "ledger_mode", "pacing_plan")
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
    def __init__(self, campaign_id: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., name: _Optional[str] = ..., currency: _Optional[str] = ..., time_zone: _Optional[str] = ..., flight_start_ms: _Optional[int] = ..., flight_end_ms: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., line_items: _Optional[_Iterable[_Union[LineItem, _Mapping]]] = ..., paused: _Optional[bool] = ..., ledger_mode: _Optional[_Union[LedgerMode, str]] = ..., pacing_plan: _Optional[_Union[PacingPlan, str]] = ...) -> None: ...

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
    __slots__ = ("campaign", "accounts", "planned_spend_micros", "pacing_multiplier")
    CAMPAIGN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    PLANNED_SPEND_MICROS_FIELD_NUMBER: _ClassVar[int]
    PACING_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    campaign: Campaign
    accounts: _containers.RepeatedCompositeFieldContainer[Account]
    planned_spend_micros: int
    pacing_multiplier: float
    def __init__(self, campaign: _Optional[_Union[Campaign, _Mapping]] = ..., accounts: _Optional[_Iterable[_Union[Account, _Mapping]]] = ..., planned_spend_micros: _Optional[int] = ..., pacing_multiplier: _Optional[float] = ...) -> None: ...

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
