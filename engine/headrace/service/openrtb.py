"""OpenRTB 2.6 over HTTP: JSON to columns, decisions to JSON, no-bids with their reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs

import msgspec
import numpy as np

from headrace._native import hash_texts
from headrace.bidding.engine import BiddingEngine
from headrace.bidding.requests import (
    CURRENCY,
    INSUFFICIENT_TIME,
    JOURNAL_UNAVAILABLE,
    LEDGER_NOT_OWNER,
    NO_MATCH,
    BidRequests,
    Decisions,
    PlainWords,
)
from headrace.bidding.validation import DEFAULT_CURRENCY
from headrace.clock import Clock
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.events.identity import subject_name
from headrace.front import Call, Reply
from headrace.front.routes import QUERY, Route
from headrace.front.settings import HttpConfig
from headrace.service import openrtb_models as models
from headrace.service.consent import may_know
from headrace.service.countries import country_of
from headrace.service.method import Method
from headrace.service.prices import decimal_of, floor_micros

BID_PATH = "/openrtb2/bid"
VERSION = ("x-openrtb-version", "2.6")
MAX_CATEGORIES, MAX_SEGMENTS, MAX_WORD = 16, 64, 64
FIRST_PRICE = (1, 3)
"""Values of ``at``: first price, and a deal's fixed price; any other is a second price."""

OWN_REASONS = 500
TECHNICAL_ERROR, INVALID_REQUEST, NO_TIME = 1, 2, 15
_NBR = {
    INSUFFICIENT_TIME: NO_TIME,
    LEDGER_NOT_OWNER: TECHNICAL_ERROR,
    JOURNAL_UNAVAILABLE: TECHNICAL_ERROR,
}
"""OpenRTB's number for a no-bid reason; the others are ours and begin at 500."""

_request = msgspec.json.Decoder(models.BidRequest)
_hurry = msgspec.json.Decoder(models.Hurry)
_sent = msgspec.json.Decoder(models.Sent)
_encode = msgspec.json.Encoder().encode


def bid_route(config: HttpConfig) -> Route:
    """Where bid requests come in."""
    network_s, longest_s = config.network_ms / 1000, config.tmax_ms / 1000

    def time_left(body: bytes) -> float | None:
        try:
            tmax = _hurry.decode(body).tmax
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            return None
        return tmax / 1000 - network_s if tmax else None

    return Route("POST", BID_PATH, BID_PATH, "application/json", longest_s, time_left)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that may be bid on: which of its impressions, in which currency, and what is known of the user."""

    request: models.BidRequest
    impressions: list[models.Impression]
    currency: str
    exchange: str
    name: str
    segments: list[str]


class OpenRtbService:
    """``POST /openrtb2/bid``.

    notices : URL of the tenant's notices, to which ``/win`` and the like are added.
    expires_s : seconds for which a bid's money is kept; 0 is not told.
    explain : no-bids have a body that names the reason, too.
    monotonic : the clock of deadlines.
    """

    def __init__(
        self,
        engine: BiddingEngine,
        clock: Clock,
        notices: str,
        *,
        expires_s: int = 0,
        explain: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._notices = notices
        self._expires_s = expires_s
        self._explain = explain
        self._monotonic = monotonic

    def methods(self) -> list[Method]:
        """The methods of the service."""
        return [Method(BID_PATH, answer=self.bid, shed=self.shed, take_back=self.take_back, late=True)]

    def bid(self, calls: Sequence[Call]) -> list[Reply | HeadraceError]:
        """Answer n requests; the wrong ones alone fail."""
        now = self._monotonic()
        read = [self._read(call, now) for call in calls]
        asked = [each for each in read if isinstance(each, Asked)]
        answers: Iterator[Reply] = iter(())
        if asked:
            deadlines = [call.deadline for call, each in zip(calls, read, strict=True) if isinstance(each, Asked)]
            answers = iter(self._decided(asked, deadlines))
        return [next(answers) if isinstance(each, Asked) else each for each in read]

    def shed(self, calls: Sequence[Call]) -> list[Reply | HeadraceError]:
        """No bid for want of time, without reading more than the id."""
        return [self._no_bid("", NO_TIME) for _ in calls]

    def take_back(self, calls: Sequence[Call], bodies: Sequence[bytes]) -> None:
        """Return the money of answers that were never sent."""
        urls = [bid.lurl for body in bodies if body for seat in _sent.decode(body).seatbid for bid in seat.bid]
        self._engine.take_back([url.partition("token=")[2].partition("&")[0] for url in urls])

    def _read(self, call: Call, now: float) -> Asked | Reply | HeadraceError:
        try:
            check_version(call.metadata.get("x-openrtb-version", ""))
            request = decode(call.body)
            if call.deadline < now:
                return self._no_bid(request.id, NO_TIME)
            if request.test:
                return self._no_bid(request.id, OWN_REASONS + NO_MATCH)
            return self._asked(request, exchange_of(call.metadata.get(QUERY, "")))
        except InvalidRequestError as error:
            return error

    def _asked(self, request: models.BidRequest, exchange: str) -> Asked | Reply:
        currency, impressions = payable(request)
        if not impressions:
            return self._no_bid(request.id, OWN_REASONS + CURRENCY)
        user = request.user
        if user is None or not may_know(request):
            return Asked(request, impressions, currency, exchange, "", [])
        # what the buyer calls a person is our name for them; the exchange's own id is another's
        name = subject_name(user.buyeruid or "", user.id or "")
        return Asked(request, impressions, currency, exchange, name, segments_of(user))

    def _decided(self, asked: Sequence[Asked], deadlines: Sequence[float]) -> list[Reply]:
        decisions = self._engine.bid(columns(asked, deadlines, self._clock()))
        try:
            return self._replies(asked, decisions)
        except BaseException:
            self._engine.take_back(decisions.tokens)
            raise

    def _replies(self, asked: Sequence[Asked], decisions: Decisions) -> list[Reply]:
        lines, reasons = decisions.lines.tolist(), decisions.reasons.tolist()
        prices, positions = decisions.bid_cpm.tolist(), decisions.positions.tolist()
        replies, unsent = [], []
        at = 0
        for each in asked:
            seats: dict[str, list[models.Bid]] = {}
            first = reasons[at]
            for impression in each.impressions:
                line, token = lines[at], decisions.tokens[at]
                if token is not None:
                    campaign_id, _, advertiser_id = decisions.board.names[line]
                    if seated(each.request, advertiser_id):
                        item_id = decisions.board.item_id(line, positions[at])
                        offer = self._bid(impression, token, prices[at], (campaign_id, item_id, each.currency))
                        seats.setdefault(advertiser_id, []).append(offer)
                    else:
                        unsent.append(token)
                at += 1
            replies.append(self._reply(each, seats, first))
        if unsent:
            self._engine.take_back(unsent)
        return replies

    def _bid(self, impression: models.Impression, token: str, cpm: int, what: tuple[str, str, str]) -> models.Bid:
        campaign_id, item_id, currency = what
        price = f"&price=${{AUCTION_PRICE}}&currency=${{AUCTION_CURRENCY}}&bid_currency={currency}"
        minimum = "&min_to_win=${AUCTION_MIN_TO_WIN}"
        notices = self._notices
        return models.Bid(
            id=token[-16:],
            impid=impression.id,
            price=msgspec.Raw(decimal_of(cpm)),
            nurl=f"{notices}/win?token={token}{price}{minimum}",
            burl=f"{notices}/bill?token={token}{price}{minimum}",
            lurl=f"{notices}/loss?token={token}&reason=${{AUCTION_LOSS}}{minimum}",
            adid=item_id,
            cid=campaign_id,
            crid=item_id,
            mtype=media_of(impression),
            exp=self._expires_s,
        )

    def _reply(self, asked: Asked, seats: dict[str, list[models.Bid]], reason: int) -> Reply:
        if not seats:
            # a reason of 0 here: all bids were for seats that may not buy
            return self._no_bid(asked.request.id, _NBR.get(reason, OWN_REASONS + (reason or NO_MATCH)))
        seatbid = [models.SeatBid(bids, seat) for seat, bids in seats.items()]
        response = models.BidResponse(asked.request.id, seatbid, seatbid[0].bid[0].id, asked.currency)
        return Reply(_encode(response), headers=(VERSION,))

    def _no_bid(self, request_id: str, nbr: int) -> Reply:
        headers = (VERSION, ("x-openrtb-nbr", str(nbr)))
        if self._explain and request_id:
            return Reply(_encode(models.BidResponse(request_id, nbr=nbr)), headers=headers)
        return Reply(headers=headers)


def check_version(version: str) -> None:
    """Raise InvalidRequestError for a version that differs in its first number; none at all is fine."""
    if version and version.partition(".")[0] != "2":
        raise InvalidRequestError("x-openrtb-version", version, "2.x", "leave it out if in doubt")


def decode(body: bytes) -> models.BidRequest:
    """The request in a body. Raises InvalidRequestError."""
    try:
        request = _request.decode(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequestError(f"no OpenRTB bid request: {error}") from None
    except RecursionError:
        raise InvalidRequestError("no OpenRTB bid request: nested too deeply") from None
    impressions = request.imp
    if len(impressions) > 1 and len({impression.id for impression in impressions}) < len(impressions):
        raise InvalidRequestError("imp.id", "one twice", "each once in a request")
    for impression in impressions:
        if not media_of(impression):
            raise InvalidRequestError("imp", impression.id, "one of banner, video, audio and native")
    user = request.user
    if user is not None and ("\0" in (user.id or "") or "\0" in (user.buyeruid or "")):
        raise InvalidRequestError("user.id and user.buyeruid", "a NUL character", "text without it")
    return request


def exchange_of(query: str) -> str:
    """The exchange that the endpoint's URL names: ``?exchange=adx``."""
    return parse_qs(query).get("exchange", [""])[0][:64] if query else ""


def payable(request: models.BidRequest) -> tuple[str, list[models.Impression]]:
    """The currency to bid in, and the impressions whose floor can be met in it."""
    allowed = request.cur or ()
    floored = [impression.bidfloorcur or DEFAULT_CURRENCY for impression in request.imp if impression.bidfloor]
    usable = [currency for currency in floored if not allowed or currency in allowed]
    currency = usable[0] if usable else allowed[0] if allowed else DEFAULT_CURRENCY
    fit = [
        impression
        for impression in request.imp
        if not impression.bidfloor or (impression.bidfloorcur or DEFAULT_CURRENCY) == currency
    ]
    return currency, fit


def columns(asked: Sequence[Asked], deadlines: Sequence[float], now_ms: int) -> BidRequests:
    """The requests as the engine takes them."""
    said = [
        (row, floor_micros(imp.bidfloor or 0.0), (imp.tagid or "")[:MAX_WORD])
        for row, each in enumerate(asked)
        for imp in each.impressions
    ]
    rows, floors, placements = zip(*said, strict=True)
    return BidRequests(
        names=[each.name for each in asked],
        words=PlainWords(
            [_country(each.request) for each in asked],
            [categories_of(each.request) for each in asked],
            [each.segments for each in asked],
            [each.currency for each in asked],
        ),
        exchanges=[each.exchange for each in asked],
        deadlines=np.array(deadlines),
        time_ms=np.full(len(asked), now_ms, np.int64),
        first_price=np.array([each.request.at in FIRST_PRICE for each in asked], bool),
        seeds=hash_texts([each.request.id for each in asked]),
        request=np.array(rows, np.int32),
        floor_cpm=np.array(floors, np.int64),
        placements=placements,
    )


def media_of(impression: models.Impression) -> int:
    """OpenRTB's markup type of the first format that the impression takes; 0 for none."""
    if impression.banner is not None:
        return 1
    if impression.video is not None:
        return 2
    if impression.native is not None:
        return 4
    return 3 if impression.audio is not None else 0


def seated(request: models.BidRequest, advertiser_id: str) -> bool:
    """Whether the exchange takes bids of this advertiser's seat."""
    if request.wseat:
        return advertiser_id in request.wseat
    return not request.bseat or advertiser_id not in request.bseat


def categories_of(request: models.BidRequest) -> list[str]:
    """What the page, app or screen is about, at most 16 words."""
    place = request.site or request.app or request.dooh
    if place is None:
        return []
    words = [word for some in (place.cat, place.sectioncat, place.pagecat) if some for word in some]
    return [word for word in words[:MAX_CATEGORIES] if len(word) <= MAX_WORD]


def segments_of(user: models.User) -> list[str]:
    """Segments that the user is in, at most 64."""
    words = [one.id for data in user.data or () for one in data.segment or () if one.id]
    return [word for word in words[:MAX_SEGMENTS] if len(word) <= MAX_WORD]


def _country(request: models.BidRequest) -> str:
    device = request.device
    return country_of(device.geo.country) if device is not None and device.geo is not None else ""
