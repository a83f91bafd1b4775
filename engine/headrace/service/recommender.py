"""headrace.v1.RecommenderService: from requests to queries, from answers to responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from headrace._native import join_slate_batch, read_slate_requests, split_slate_batch, write_slates
from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call
from headrace.recommend.model import Model
from headrace.recommend.recommender import Answer, Answers, Recommender, Requests
from headrace.recommend.retrieve import POPULAR, Wanted
from headrace.service.checks import (
    MAX_ID_BYTES,
    MAX_LABEL_BYTES,
    check_count,
    check_ids,
    check_range,
    check_text,
    within,
)
from headrace.service.method import Method
from headrace.types import Bool, Int8, Int64
from headrace.v1 import recommender_pb2 as pb

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_EXCLUSIONS = 10_000
MAX_SESSION = 100
MAX_BATCH = 256

_POLICIES = (pb.REPEAT_POLICY_UNSPECIFIED, pb.REPEAT_POLICY_EXCLUDE_PURCHASED, pb.REPEAT_POLICY_ALLOW)


class RecommenderService:
    """Recommend, RecommendBatch and SimilarItems over one recommender."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def methods(self) -> list[Method]:
        """What the server offers of this service."""
        prefix = "/headrace.v1.RecommenderService/"
        return [
            Method(prefix + "Recommend", pb.RecommendRequest, answer=self.recommend, shed=self.recommend_popular),
            Method(prefix + "RecommendBatch", pb.RecommendBatchRequest, answer=self.recommend_batch),
            Method(prefix + "SimilarItems", pb.SimilarItemsRequest, self.similar_items),
        ]

    def recommend(self, calls: Sequence[Call]) -> list[bytes | HeadraceError]:
        """A slate for each request, from bytes to bytes; a request that is wrong fails alone."""
        return self._slates([call.body for call in calls])

    def recommend_popular(self, calls: Sequence[Call]) -> list[bytes | HeadraceError]:
        """The same without a look at anybody's history, for calls that there is no time for."""
        return self._slates([call.body for call in calls], shed=True)

    def recommend_batch(self, calls: Sequence[Call]) -> list[bytes | HeadraceError]:
        """All slates of each call, or the error of the first request of it that fails."""
        return [self._one_batch(call.body) for call in calls]

    def similar_items(
        self, requests: Sequence[pb.SimilarItemsRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.SimilarItemsResponse | HeadraceError]:
        """Items that go with the item of each request."""
        return [self._one_similar(request) for request in requests]

    def _slates(self, bodies: list[bytes], *, shed: bool = False) -> list[bytes | HeadraceError]:
        model = self._recommender.model
        requests, with_attributes, bad = _read(model, bodies)
        results: list[Any] = [None] * len(bodies)
        for i in bad.tolist():
            results[i] = _what_is_wrong(bodies[i])
        if not requests.names:
            return results
        answer = self._recommender.answer_popular if shed else self._recommender.answer
        slates = _written(model, answer(model, requests), with_attributes, shed)
        if not len(bad):
            return slates
        remaining = iter(slates)
        return [next(remaining) if result is None else result for result in results]

    def _one_batch(self, body: bytes) -> bytes | HeadraceError:
        bodies = split_slate_batch(body)
        if bodies is None:
            return _malformed(pb.RecommendBatchRequest)
        try:
            check_count("requests", bodies, 1, MAX_BATCH)
        except InvalidRequestError as error:
            return error
        slates = self._slates(bodies)
        failed = [(i, slate) for i, slate in enumerate(slates) if isinstance(slate, HeadraceError)]
        if not failed:
            return join_slate_batch([slate for slate in slates if isinstance(slate, bytes)])
        try:
            pb.RecommendBatchRequest.FromString(body)
        except DecodeError:
            return _malformed(pb.RecommendBatchRequest)
        return within(f"requests[{failed[0][0]}]", failed[0][1])

    def _one_similar(self, request: pb.SimilarItemsRequest) -> pb.SimilarItemsResponse | HeadraceError:
        try:
            check_text("item_id", request.item_id, MAX_ID_BYTES, required=True)
            check_ids("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUSIONS)
            answer = self._recommender.similar(request.item_id, _limit(request), request.exclude_item_ids)
        except HeadraceError as error:
            return error
        response = pb.SimilarItemsResponse(
            request_id=answer.request_id,
            artifact_version=answer.model.version,
            event_sequence=answer.event_sequence,
        )
        _add_items(response, answer, request.include_attributes)
        return response


def _limit(request: pb.RecommendRequest | pb.SimilarItemsRequest) -> int:
    if not request.HasField("limit"):
        return DEFAULT_LIMIT
    check_range("limit", request.limit, 1, MAX_LIMIT, f"leave it out for {DEFAULT_LIMIT}")
    return request.limit


def _malformed(request: type[Any]) -> InvalidRequestError:
    return InvalidRequestError(f"the request is no {request.DESCRIPTOR.full_name} message")


def _read(model: Model, bodies: list[bytes]) -> tuple[Requests, Int8, Int64]:
    """The good requests in columns, which of them want attributes, and the positions of the others."""
    read = read_slate_requests(
        bodies,
        model.items.rows,
        MAX_ID_BYTES,
        MAX_LABEL_BYTES,
        MAX_EXCLUSIONS,
        MAX_SESSION,
        MAX_LIMIT,
        DEFAULT_LIMIT,
        len(_POLICIES),
    )
    names, surfaces, min_sequences, limits, policies, excluded, excluded_rows, session, session_rows = read[:-2]
    purchased: Bool = policies == pb.REPEAT_POLICY_EXCLUDE_PURCHASED
    if model.exclude_purchased:
        purchased |= policies == pb.REPEAT_POLICY_UNSPECIFIED
    wanted = Wanted(limits, purchased.astype(np.int8), excluded, excluded_rows, session, session_rows)
    return Requests(names, surfaces, min_sequences, wanted), read[-2], read[-1]


def _written(model: Model, answers: Answers, with_attributes: Int8, shed: bool) -> list[bytes | HeadraceError]:
    found = answers.found
    # what is known of a person whose history was not looked up is not said
    cold_tier = 0 if shed else POPULAR
    slates: list[Any] = write_slates(
        model.items.rows,
        answers.request_ids,
        model.version,
        answers.event_sequence,
        found.tiers,
        cold_tier,
        found.rows,
        found.scores,
        found.counts,
    )
    for i in [i for i, wanted in enumerate(with_attributes.tolist()) if wanted]:
        response = pb.RecommendResponse.FromString(slates[i])
        for item, row in zip(response.items, found.rows[i].tolist(), strict=False):
            item.attributes.update(model.items.attributes.get(row, {}))
        slates[i] = response.SerializeToString()
    for i, error in answers.errors.items():
        slates[i] = error
    return slates


def _what_is_wrong(body: bytes) -> HeadraceError:
    """Why a request was not taken."""
    try:
        request = pb.RecommendRequest.FromString(body)
        check_text("user_id", request.user_id, MAX_ID_BYTES)
        check_text("anonymous_id", request.anonymous_id, MAX_ID_BYTES)
        check_text("surface", request.surface, MAX_LABEL_BYTES)
        check_ids("exclude_item_ids", request.exclude_item_ids, MAX_EXCLUSIONS)
        check_ids("session_item_ids", request.session_item_ids, MAX_SESSION)
        if request.repeat_policy not in _POLICIES:
            expected = f"one of {', '.join(pb.RepeatPolicy.keys())}"
            raise InvalidRequestError("repeat_policy", request.repeat_policy, expected, "leave it out for the default")
        _limit(request)
    except DecodeError:
        return _malformed(pb.RecommendRequest)
    except InvalidRequestError as error:
        return error
    return _malformed(pb.RecommendRequest)


def _add_items(response: pb.SimilarItemsResponse, answer: Answer, with_attributes: bool) -> None:
    items = answer.model.items
    for row, score in zip(answer.rows, answer.scores, strict=True):
        item = response.items.add(item_id=items.rows.id(row), score=score, price_micros=items.rows.price(row))
        if with_attributes:
            item.attributes.update(items.attributes.get(row, {}))
