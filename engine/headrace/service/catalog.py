"""headrace.v1.CatalogService: what may be recommended, into the log and at once into the state."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import HeadraceError, InvalidRequestError
from headrace.events.items import CatalogItem
from headrace.front import Call
from headrace.recommend.recommender import Recommender
from headrace.service.checks import MAX_ID_BYTES, check_count, check_range, check_text, within
from headrace.service.method import Method
from headrace.v1 import catalog_pb2 as pb

MAX_ITEMS = 1000
MAX_ATTRIBUTES = 64
MAX_KEY_BYTES = 64
MAX_VALUE_BYTES = 4096
_MAX_INT64 = (1 << 63) - 1


class CatalogService:
    """UpsertItems and DeleteItems; both answer after the commit, once this process answers accordingly."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._log = recommender.log

    def methods(self) -> list[Method]:
        """What the server offers of this service."""
        prefix = "/headrace.v1.CatalogService/"
        return [
            Method(prefix + "UpsertItems", pb.UpsertItemsRequest, self.upsert_items),
            Method(prefix + "DeleteItems", pb.DeleteItemsRequest, self.delete_items),
        ]

    def upsert_items(
        self, requests: Sequence[pb.UpsertItemsRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.UpsertItemsResponse | HeadraceError]:
        """Store each request's items, all or none."""
        return [self._upsert(request) for request in requests]

    def delete_items(
        self, requests: Sequence[pb.DeleteItemsRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.DeleteItemsResponse | HeadraceError]:
        """Take each request's items out of answers."""
        return [self._delete(request) for request in requests]

    def _upsert(self, request: pb.UpsertItemsRequest) -> pb.UpsertItemsResponse | HeadraceError:
        try:
            check_count("items", request.items, 1, MAX_ITEMS)
            upserted = self._log.upsert_items([_item(item, index) for index, item in enumerate(request.items)])
            self._recommender.catch_up()
        except HeadraceError as error:
            return error
        return pb.UpsertItemsResponse(upserted=upserted)

    def _delete(self, request: pb.DeleteItemsRequest) -> pb.DeleteItemsResponse | HeadraceError:
        try:
            check_count("item_ids", request.item_ids, 1, MAX_ITEMS)
            for index, item_id in enumerate(request.item_ids):
                check_text(f"item_ids[{index}]", item_id, MAX_ID_BYTES, required=True)
            artifact_ids = self._recommender.model.artifact.item_ids
            known = [artifact_ids.find(item_id) >= 0 for item_id in request.item_ids]
            deleted = self._log.delete_items(request.item_ids, known)
            self._recommender.catch_up()
        except HeadraceError as error:
            return error
        return pb.DeleteItemsResponse(deleted=deleted)


def _item(item: pb.Item, index: int) -> CatalogItem:
    try:
        _check(item)
    except InvalidRequestError as error:
        raise within(f"items[{index}]", error) from None
    return CatalogItem(
        item_id=item.item_id,
        unavailable=item.unavailable,
        price_micros=item.price_micros,
        publish_time_ms=item.publish_time_ms,
        expire_time_ms=item.expire_time_ms,
        attributes=item.attributes,
    )


def _check(item: pb.Item) -> None:
    check_text("item_id", item.item_id, MAX_ID_BYTES, required=True)
    check_range("price_micros", item.price_micros, 0, _MAX_INT64, "leave it out when not known")
    check_range("publish_time_ms", item.publish_time_ms, 0, _MAX_INT64, "leave it out for no bound")
    check_range("expire_time_ms", item.expire_time_ms, 0, _MAX_INT64, "leave it out for no bound")
    if 0 < item.expire_time_ms <= item.publish_time_ms:
        expected = f"later than publish_time_ms, {item.publish_time_ms}"
        raise InvalidRequestError("expire_time_ms", item.expire_time_ms, expected, "zero leaves the end open")
    check_count("attributes", item.attributes, 0, MAX_ATTRIBUTES)
    for key, value in item.attributes.items():
        check_text("attributes key", key, MAX_KEY_BYTES, required=True)
        check_text(f"attributes[{key!r}]", value, MAX_VALUE_BYTES)
