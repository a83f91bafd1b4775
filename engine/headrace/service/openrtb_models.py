"""OpenRTB 2.6 as it is read and written: typed, and of what is read only; everything else is skipped unseen."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct

MAX_IMPRESSIONS = 64

Count = Annotated[int, Meta(ge=0, le=1 << 31)]
Amount = Annotated[float, Meta(ge=0, le=1e9)]
Words = list[str] | None


class Media(Struct, gc=False):
    """A format that an impression takes; only that it is there counts."""


class Impression(Struct, gc=False):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    banner: Media | None = None
    video: Media | None = None
    audio: Media | None = None
    native: Media | None = None
    bidfloor: Amount | None = None
    bidfloorcur: str | None = None
    tagid: str | None = None


class Place(Struct, gc=False):
    """A site, an app or a screen out of home."""

    cat: Words = None
    sectioncat: Words = None
    pagecat: Words = None


class Geo(Struct, gc=False):
    country: str | None = None


class Device(Struct, gc=False):
    geo: Geo | None = None
    dnt: int | None = None
    lmt: int | None = None


class Segment(Struct, gc=False):
    id: str | None = None


class Data(Struct, gc=False):
    segment: list[Segment] | None = None


class UserExtension(Struct, gc=False):
    consent: str | None = None


class User(Struct, gc=False):
    id: Annotated[str, Meta(max_length=256)] | None = None
    buyeruid: Annotated[str, Meta(max_length=256)] | None = None
    data: list[Data] | None = None
    consent: str | None = None
    ext: UserExtension | None = None


class RegsExtension(Struct, gc=False):
    gdpr: int | None = None
    us_privacy: str | None = None


class Regs(Struct, gc=False):
    coppa: int | None = None
    gdpr: int | None = None
    us_privacy: str | None = None
    ext: RegsExtension | None = None


class BidRequest(Struct, gc=False):
    id: Annotated[str, Meta(min_length=1, max_length=128)]
    imp: Annotated[list[Impression], Meta(min_length=1, max_length=MAX_IMPRESSIONS)]
    site: Place | None = None
    app: Place | None = None
    dooh: Place | None = None
    device: Device | None = None
    user: User | None = None
    test: Count | None = None
    at: Count | None = None
    wseat: Words = None
    bseat: Words = None
    cur: Words = None
    regs: Regs | None = None


class Hurry(Struct, gc=False):
    """What the door reads of a request, to know by when it must be answered."""

    tmax: Count | None = None


class Bid(Struct, gc=False, omit_defaults=True):
    """price : CPM in units, written from micros."""

    id: str
    impid: str
    price: Raw
    nurl: str
    burl: str
    lurl: str
    adid: str
    cid: str
    crid: str
    mtype: int
    exp: int = 0


class SeatBid(Struct, gc=False):
    bid: list[Bid]
    seat: str


class BidResponse(Struct, gc=False, omit_defaults=True):
    id: str
    seatbid: list[SeatBid] = []
    bidid: str = ""
    cur: str = ""
    nbr: int | None = None


class Sent(Struct, gc=False):
    """What is read back of an answer that was never sent: the notice URLs, which hold the tokens."""

    seatbid: list[SentSeat] = []


class SentSeat(Struct, gc=False):
    bid: list[SentBid]


class SentBid(Struct, gc=False):
    lurl: str
