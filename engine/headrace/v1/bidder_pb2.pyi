from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AuctionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AUCTION_TYPE_UNSPECIFIED: _ClassVar[AuctionType]
    AUCTION_TYPE_FIRST_PRICE: _ClassVar[AuctionType]
    AUCTION_TYPE_SECOND_PRICE: _ClassVar[AuctionType]

class NoBidReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NO_BID_REASON_UNSPECIFIED: _ClassVar[NoBidReason]
    NO_BID_REASON_NO_MATCH: _ClassVar[NoBidReason]
    NO_BID_REASON_BUDGET: _ClassVar[NoBidReason]
    NO_BID_REASON_BELOW_FLOOR: _ClassVar[NoBidReason]
    NO_BID_REASON_LEDGER_NOT_OWNER: _ClassVar[NoBidReason]
    NO_BID_REASON_BRAKE: _ClassVar[NoBidReason]
    NO_BID_REASON_JOURNAL_UNAVAILABLE: _ClassVar[NoBidReason]
    NO_BID_REASON_INSUFFICIENT_TIME: _ClassVar[NoBidReason]
    NO_BID_REASON_CURRENCY: _ClassVar[NoBidReason]
    NO_BID_REASON_PACED: _ClassVar[NoBidReason]
    NO_BID_REASON_FENCED: _ClassVar[NoBidReason]
    NO_BID_REASON_STRATEGY: _ClassVar[NoBidReason]
    NO_BID_REASON_AUTHORITY_UNREACHABLE: _ClassVar[NoBidReason]

class NoticeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_TYPE_UNSPECIFIED: _ClassVar[NoticeType]
    NOTICE_TYPE_WIN: _ClassVar[NoticeType]
    NOTICE_TYPE_BILLING: _ClassVar[NoticeType]
    NOTICE_TYPE_LOSS: _ClassVar[NoticeType]

class NoticeOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NOTICE_OUTCOME_UNSPECIFIED: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_ACCEPTED: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_DUPLICATE: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_LATE: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_DISPUTED: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_FORGED: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_CONFLICT: _ClassVar[NoticeOutcome]
    NOTICE_OUTCOME_REFUSED: _ClassVar[NoticeOutcome]

class ActionOutcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTION_OUTCOME_UNSPECIFIED: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_ACCEPTED: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_DUPLICATE: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_CONFLICT: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_FORGED: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_UNKNOWN: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_TOO_OLD: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_NOT_WON: _ClassVar[ActionOutcome]
    ACTION_OUTCOME_NOT_REPORTED: _ClassVar[ActionOutcome]

class CandidateReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANDIDATE_REASON_UNSPECIFIED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_BID: _ClassVar[CandidateReason]
    CANDIDATE_REASON_COUNTRY: _ClassVar[CandidateReason]
    CANDIDATE_REASON_CATEGORY: _ClassVar[CandidateReason]
    CANDIDATE_REASON_SEGMENT: _ClassVar[CandidateReason]
    CANDIDATE_REASON_HOUR: _ClassVar[CandidateReason]
    CANDIDATE_REASON_CURRENCY: _ClassVar[CandidateReason]
    CANDIDATE_REASON_FLIGHT: _ClassVar[CandidateReason]
    CANDIDATE_REASON_PAUSED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_NO_ITEM: _ClassVar[CandidateReason]
    CANDIDATE_REASON_NOT_RECORDED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_EXHAUSTED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_UNAFFORDABLE: _ClassVar[CandidateReason]
    CANDIDATE_REASON_BELOW_FLOOR: _ClassVar[CandidateReason]
    CANDIDATE_REASON_PACED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_STRATEGY: _ClassVar[CandidateReason]
    CANDIDATE_REASON_OUTRANKED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_REFUSED: _ClassVar[CandidateReason]
    CANDIDATE_REASON_LATE: _ClassVar[CandidateReason]

class PriceSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRICE_SOURCE_UNSPECIFIED: _ClassVar[PriceSource]
    PRICE_SOURCE_PAID: _ClassVar[PriceSource]
    PRICE_SOURCE_MINIMUM_TO_WIN: _ClassVar[PriceSource]
    PRICE_SOURCE_ESTIMATED: _ClassVar[PriceSource]
AUCTION_TYPE_UNSPECIFIED: AuctionType
AUCTION_TYPE_FIRST_PRICE: AuctionType
AUCTION_TYPE_SECOND_PRICE: AuctionType
NO_BID_REASON_UNSPECIFIED: NoBidReason
NO_BID_REASON_NO_MATCH: NoBidReason
NO_BID_REASON_BUDGET: NoBidReason
NO_BID_REASON_BELOW_FLOOR: NoBidReason
NO_BID_REASON_LEDGER_NOT_OWNER: NoBidReason
NO_BID_REASON_BRAKE: NoBidReason
NO_BID_REASON_JOURNAL_UNAVAILABLE: NoBidReason
NO_BID_REASON_INSUFFICIENT_TIME: NoBidReason
NO_BID_REASON_CURRENCY: NoBidReason
NO_BID_REASON_PACED: NoBidReason
NO_BID_REASON_FENCED: NoBidReason
NO_BID_REASON_STRATEGY: NoBidReason
NO_BID_REASON_AUTHORITY_UNREACHABLE: NoBidReason
NOTICE_TYPE_UNSPECIFIED: NoticeType
NOTICE_TYPE_WIN: NoticeType
NOTICE_TYPE_BILLING: NoticeType
NOTICE_TYPE_LOSS: NoticeType
NOTICE_OUTCOME_UNSPECIFIED: NoticeOutcome
NOTICE_OUTCOME_ACCEPTED: NoticeOutcome
NOTICE_OUTCOME_DUPLICATE: NoticeOutcome
NOTICE_OUTCOME_LATE: NoticeOutcome
NOTICE_OUTCOME_DISPUTED: NoticeOutcome
NOTICE_OUTCOME_FORGED: NoticeOutcome
NOTICE_OUTCOME_CONFLICT: NoticeOutcome
NOTICE_OUTCOME_REFUSED: NoticeOutcome
ACTION_OUTCOME_UNSPECIFIED: ActionOutcome
ACTION_OUTCOME_ACCEPTED: ActionOutcome
ACTION_OUTCOME_DUPLICATE: ActionOutcome
ACTION_OUTCOME_CONFLICT: ActionOutcome
ACTION_OUTCOME_FORGED: ActionOutcome
ACTION_OUTCOME_UNKNOWN: ActionOutcome
ACTION_OUTCOME_TOO_OLD: ActionOutcome
ACTION_OUTCOME_NOT_WON: ActionOutcome
ACTION_OUTCOME_NOT_REPORTED: ActionOutcome
CANDIDATE_REASON_UNSPECIFIED: CandidateReason
CANDIDATE_REASON_BID: CandidateReason
CANDIDATE_REASON_COUNTRY: CandidateReason
CANDIDATE_REASON_CATEGORY: CandidateReason
CANDIDATE_REASON_SEGMENT: CandidateReason
CANDIDATE_REASON_HOUR: CandidateReason
CANDIDATE_REASON_CURRENCY: CandidateReason
CANDIDATE_REASON_FLIGHT: CandidateReason
CANDIDATE_REASON_PAUSED: CandidateReason
CANDIDATE_REASON_NO_ITEM: CandidateReason
CANDIDATE_REASON_NOT_RECORDED: CandidateReason
CANDIDATE_REASON_EXHAUSTED: CandidateReason
CANDIDATE_REASON_UNAFFORDABLE: CandidateReason
CANDIDATE_REASON_BELOW_FLOOR: CandidateReason
CANDIDATE_REASON_PACED: CandidateReason
CANDIDATE_REASON_STRATEGY: CandidateReason
CANDIDATE_REASON_OUTRANKED: CandidateReason
CANDIDATE_REASON_REFUSED: CandidateReason
CANDIDATE_REASON_LATE: CandidateReason
PRICE_SOURCE_UNSPECIFIED: PriceSource
PRICE_SOURCE_PAID: PriceSource
PRICE_SOURCE_MINIMUM_TO_WIN: PriceSource
PRICE_SOURCE_ESTIMATED: PriceSource

class Impression(_message.Message):
    __slots__ = ("impression_id", "floor_cpm_micros", "placement")
    IMPRESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FLOOR_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    impression_id: str
    floor_cpm_micros: int
    placement: str
    def __init__(self, impression_id: _Optional[str] = ..., floor_cpm_micros: _Optional[int] = ..., placement: _Optional[str] = ...) -> None: ...

class BidRequest(_message.Message):
    __slots__ = ("bid_request_id", "impressions", "user_id", "anonymous_id", "country", "categories", "time_ms", "exchange", "auction_type", "currency", "user_segments", "tmax_ms")
    BID_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ANONYMOUS_ID_FIELD_NUMBER: _ClassVar[int]
    COUNTRY_FIELD_NUMBER: _ClassVar[int]
    CATEGORIES_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    AUCTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    USER_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    TMAX_MS_FIELD_NUMBER: _ClassVar[int]
    bid_request_id: str
    impressions: _containers.RepeatedCompositeFieldContainer[Impression]
    user_id: str
    anonymous_id: str
    country: str
    categories: _containers.RepeatedScalarFieldContainer[str]
    time_ms: int
    exchange: str
    auction_type: AuctionType
    currency: str
    user_segments: _containers.RepeatedScalarFieldContainer[str]
    tmax_ms: int
    def __init__(self, bid_request_id: _Optional[str] = ..., impressions: _Optional[_Iterable[_Union[Impression, _Mapping]]] = ..., user_id: _Optional[str] = ..., anonymous_id: _Optional[str] = ..., country: _Optional[str] = ..., categories: _Optional[_Iterable[str]] = ..., time_ms: _Optional[int] = ..., exchange: _Optional[str] = ..., auction_type: _Optional[_Union[AuctionType, str]] = ..., currency: _Optional[str] = ..., user_segments: _Optional[_Iterable[str]] = ..., tmax_ms: _Optional[int] = ...) -> None: ...

class ImpressionBid(_message.Message):
    __slots__ = ("impression_id", "bid_cpm_micros", "campaign_id", "line_item_id", "advertiser_id", "item_id", "token", "no_bid_reason", "value_cpm_micros", "probability")
    IMPRESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BID_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NO_BID_REASON_FIELD_NUMBER: _ClassVar[int]
    VALUE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    impression_id: str
    bid_cpm_micros: int
    campaign_id: str
    line_item_id: str
    advertiser_id: str
    item_id: str
    token: str
    no_bid_reason: NoBidReason
    value_cpm_micros: int
    probability: float
    def __init__(self, impression_id: _Optional[str] = ..., bid_cpm_micros: _Optional[int] = ..., campaign_id: _Optional[str] = ..., line_item_id: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., item_id: _Optional[str] = ..., token: _Optional[str] = ..., no_bid_reason: _Optional[_Union[NoBidReason, str]] = ..., value_cpm_micros: _Optional[int] = ..., probability: _Optional[float] = ...) -> None: ...

class BidResponse(_message.Message):
    __slots__ = ("bid_request_id", "impressions", "artifact_version")
    BID_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMPRESSIONS_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    bid_request_id: str
    impressions: _containers.RepeatedCompositeFieldContainer[ImpressionBid]
    artifact_version: str
    def __init__(self, bid_request_id: _Optional[str] = ..., impressions: _Optional[_Iterable[_Union[ImpressionBid, _Mapping]]] = ..., artifact_version: _Optional[str] = ...) -> None: ...

class BidBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[BidRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[BidRequest, _Mapping]]] = ...) -> None: ...

class BidBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[BidResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[BidResponse, _Mapping]]] = ...) -> None: ...

class BidStreamRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: BidRequest
    def __init__(self, request: _Optional[_Union[BidRequest, _Mapping]] = ...) -> None: ...

class BidStreamError(_message.Message):
    __slots__ = ("code", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class BidStreamResponse(_message.Message):
    __slots__ = ("bid_request_id", "response", "error")
    BID_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    bid_request_id: str
    response: BidResponse
    error: BidStreamError
    def __init__(self, bid_request_id: _Optional[str] = ..., response: _Optional[_Union[BidResponse, _Mapping]] = ..., error: _Optional[_Union[BidStreamError, _Mapping]] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("type", "token", "price_cpm_micros", "minimum_to_win_cpm_micros")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    PRICE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_TO_WIN_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    type: NoticeType
    token: str
    price_cpm_micros: int
    minimum_to_win_cpm_micros: int
    def __init__(self, type: _Optional[_Union[NoticeType, str]] = ..., token: _Optional[str] = ..., price_cpm_micros: _Optional[int] = ..., minimum_to_win_cpm_micros: _Optional[int] = ...) -> None: ...

class NotifyRequest(_message.Message):
    __slots__ = ("notices",)
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    def __init__(self, notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ...) -> None: ...

class NotifyResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[NoticeOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[NoticeOutcome, str]]] = ...) -> None: ...

class Action(_message.Message):
    __slots__ = ("action_id", "token", "time_ms", "count", "worth_micros", "retraction")
    ACTION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WORTH_MICROS_FIELD_NUMBER: _ClassVar[int]
    RETRACTION_FIELD_NUMBER: _ClassVar[int]
    action_id: str
    token: str
    time_ms: int
    count: int
    worth_micros: int
    retraction: bool
    def __init__(self, action_id: _Optional[str] = ..., token: _Optional[str] = ..., time_ms: _Optional[int] = ..., count: _Optional[int] = ..., worth_micros: _Optional[int] = ..., retraction: _Optional[bool] = ...) -> None: ...

class ReportActionsRequest(_message.Message):
    __slots__ = ("actions",)
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    def __init__(self, actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ...) -> None: ...

class ReportActionsResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedScalarFieldContainer[ActionOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[ActionOutcome, str]]] = ...) -> None: ...

class ExplainBidRequest(_message.Message):
    __slots__ = ("token", "bid_request_id", "impression")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BID_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMPRESSION_FIELD_NUMBER: _ClassVar[int]
    token: str
    bid_request_id: str
    impression: int
    def __init__(self, token: _Optional[str] = ..., bid_request_id: _Optional[str] = ..., impression: _Optional[int] = ...) -> None: ...

class CandidateExplanation(_message.Message):
    __slots__ = ("campaign_id", "line_item_id", "advertiser_id", "reason", "item_id", "probability", "value_cpm_micros", "premium_cpm_micros", "multiplier", "paced_cpm_micros", "bid_cpm_micros", "shade", "affordable_cpm_micros", "needed")
    CAMPAIGN_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    ADVERTISER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    PREMIUM_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    PACED_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    BID_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    SHADE_FIELD_NUMBER: _ClassVar[int]
    AFFORDABLE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    campaign_id: str
    line_item_id: str
    advertiser_id: str
    reason: CandidateReason
    item_id: str
    probability: float
    value_cpm_micros: int
    premium_cpm_micros: int
    multiplier: float
    paced_cpm_micros: int
    bid_cpm_micros: int
    shade: float
    affordable_cpm_micros: int
    needed: str
    def __init__(self, campaign_id: _Optional[str] = ..., line_item_id: _Optional[str] = ..., advertiser_id: _Optional[str] = ..., reason: _Optional[_Union[CandidateReason, str]] = ..., item_id: _Optional[str] = ..., probability: _Optional[float] = ..., value_cpm_micros: _Optional[int] = ..., premium_cpm_micros: _Optional[int] = ..., multiplier: _Optional[float] = ..., paced_cpm_micros: _Optional[int] = ..., bid_cpm_micros: _Optional[int] = ..., shade: _Optional[float] = ..., affordable_cpm_micros: _Optional[int] = ..., needed: _Optional[str] = ...) -> None: ...

class ReportedAction(_message.Message):
    __slots__ = ("time_ms", "count", "worth_micros")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    WORTH_MICROS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    count: int
    worth_micros: int
    def __init__(self, time_ms: _Optional[int] = ..., count: _Optional[int] = ..., worth_micros: _Optional[int] = ...) -> None: ...

class ExplainBidResponse(_message.Message):
    __slots__ = ("time_ms", "exchange", "placement", "impression", "auction_type", "floor_cpm_micros", "bid_cpm_micros", "no_bid_reason", "artifact_version", "event_sequence", "recomputed", "notice", "withdrawn", "price_cpm_micros", "would_have_won_at_cpm_micros", "price_source", "win_rate", "weight", "fit", "payable", "matched", "candidates", "actions")
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    IMPRESSION_FIELD_NUMBER: _ClassVar[int]
    AUCTION_TYPE_FIELD_NUMBER: _ClassVar[int]
    FLOOR_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    BID_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    NO_BID_REASON_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_VERSION_FIELD_NUMBER: _ClassVar[int]
    EVENT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RECOMPUTED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    PRICE_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    WOULD_HAVE_WON_AT_CPM_MICROS_FIELD_NUMBER: _ClassVar[int]
    PRICE_SOURCE_FIELD_NUMBER: _ClassVar[int]
    WIN_RATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FIT_FIELD_NUMBER: _ClassVar[int]
    PAYABLE_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    time_ms: int
    exchange: str
    placement: str
    impression: int
    auction_type: AuctionType
    floor_cpm_micros: int
    bid_cpm_micros: int
    no_bid_reason: NoBidReason
    artifact_version: str
    event_sequence: int
    recomputed: bool
    notice: NoticeType
    withdrawn: bool
    price_cpm_micros: int
    would_have_won_at_cpm_micros: int
    price_source: PriceSource
    win_rate: float
    weight: float
    fit: int
    payable: int
    matched: int
    candidates: _containers.RepeatedCompositeFieldContainer[CandidateExplanation]
    actions: _containers.RepeatedCompositeFieldContainer[ReportedAction]
    def __init__(self, time_ms: _Optional[int] = ..., exchange: _Optional[str] = ..., placement: _Optional[str] = ..., impression: _Optional[int] = ..., auction_type: _Optional[_Union[AuctionType, str]] = ..., floor_cpm_micros: _Optional[int] = ..., bid_cpm_micros: _Optional[int] = ..., no_bid_reason: _Optional[_Union[NoBidReason, str]] = ..., artifact_version: _Optional[str] = ..., event_sequence: _Optional[int] = ..., recomputed: _Optional[bool] = ..., notice: _Optional[_Union[NoticeType, str]] = ..., withdrawn: _Optional[bool] = ..., price_cpm_micros: _Optional[int] = ..., would_have_won_at_cpm_micros: _Optional[int] = ..., price_source: _Optional[_Union[PriceSource, str]] = ..., win_rate: _Optional[float] = ..., weight: _Optional[float] = ..., fit: _Optional[int] = ..., payable: _Optional[int] = ..., matched: _Optional[int] = ..., candidates: _Optional[_Iterable[_Union[CandidateExplanation, _Mapping]]] = ..., actions: _Optional[_Iterable[_Union[ReportedAction, _Mapping]]] = ...) -> None: ...
