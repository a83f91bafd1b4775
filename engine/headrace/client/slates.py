"""What Recommend and SimilarItems answer, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from headrace.v1.recommender_pb2 import RecommendBatchResponse, RecommendResponse, SimilarItemsResponse
from headrace.v1.recommender_pb2 import RecommendedItem as ItemMessage


class Tier(Enum):
    """How an answer was made."""

    UNSPECIFIED = 0
    EXACT = 1
    APPROXIMATE = 2
    POPULAR = 3


@dataclass(frozen=True, slots=True)
class RecommendedItem:
    """One place of a slate.

    score : comparable within one slate only, higher is better; 0 for items that only fill it.
    price_micros : the catalog's price; 0 when not known.
    attributes : empty unless asked for.
    """

    item_id: str
    score: float
    price_micros: int
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Slate:
    """One answer.

    request_id : events about the slate should carry it, with the item's position (from 0).
    items : best first.
    event_sequence : the last event that the answer has seen.
    cold_start : nothing usable is known of the person, and the slate is popularity.
    """

    request_id: str
    items: tuple[RecommendedItem, ...]
    artifact_version: str
    event_sequence: int
    tier: Tier = Tier.UNSPECIFIED
    cold_start: bool = False


def read_slate(message: RecommendResponse) -> Slate:
    """The slate of a Recommend answer."""
    return Slate(
        message.request_id,
        _items(message),
        message.artifact_version,
        message.event_sequence,
        _tier(message.tier),
        message.cold_start,
    )


def read_slates(message: RecommendBatchResponse) -> tuple[Slate, ...]:
    """The slates of a RecommendBatch answer, in the order of the requests."""
    return tuple(read_slate(response) for response in message.responses)


def read_similar(message: SimilarItemsResponse) -> Slate:
    """The slate of a SimilarItems answer; it has no tier."""
    return Slate(message.request_id, _items(message), message.artifact_version, message.event_sequence)


def _items(message: RecommendResponse | SimilarItemsResponse) -> tuple[RecommendedItem, ...]:
    return tuple(_item(item) for item in message.items)


def _item(item: ItemMessage) -> RecommendedItem:
    return RecommendedItem(item.item_id, item.score, item.price_micros, dict(item.attributes))


def _tier(number: int) -> Tier:
    # a newer server may know tiers that this client does not
    return Tier(number) if number in Tier._value2member_map_ else Tier.UNSPECIFIED
