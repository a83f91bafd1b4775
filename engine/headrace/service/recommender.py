"""headrace.v1.RecommenderService: from requests to queries, from answers to responses."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.errors import HeadraceError, InvalidRequestError
from headrace.front import Call
from headrace.recommend.recommender import Answer, Query, Recommender
from headrace.service.checks import MAX_ID_BYTES, MAX_LABEL_BYTES, check_count, check_range, check_text, within
from headrace.service.method import Method
from headrace.v1 import recommender_pb2 as pb

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
MAX_EXCLUSIONS = 10_000
MAX_BATCH = 256

_POLICIES = {
    pb.REPEAT_POLICY_UNSPECIFIED: None,
    pb.REPEAT_POLICY_EXCLUDE_PURCHASED: True,
    pb.REPEAT_POLICY_ALLOW: False,
}


class RecommenderService:
    """Recommend, RecommendBatch and SimilarItems over one recommender."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def methods(self) -> list[Method]:
        """What the server offers of this service."""
        prefix = "/headrace.v1.RecommenderService/"
        return [
            Method(prefix + "Recommend", pb.RecommendRequest, self.recommend),
            Method(prefix + "RecommendBatch", pb.RecommendBatchRequest, self.recommend_batch),
            Method(prefix + "SimilarItems", pb.SimilarItemsRequest, self.similar_items),
        ]

    def recommend(
        self, requests: Sequence[pb.RecommendRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.RecommendResponse | HeadraceError]:
        """A slate for each request; a request that is wrong fails alone."""
        queries = [_query(request) for request in requests]
        answers = iter(self._recommender.recommend([query for query in queries if isinstance(query, Query)]))
        results: list[Answer | HeadraceError] = [
            next(answers) if isinstance(query, Query) else query for query in queries
        ]
        return [
            _response(result, request.include_attributes) if isinstance(result, Answer) else result
            for result, request in zip(results, requests, strict=True)
        ]

    def recommend_batch(
        self, requests: Sequence[pb.RecommendBatchRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.RecommendBatchResponse | HeadraceError]:
        """All slates of each call, or the error of the first request of it that fails."""
        return [self._one_batch(request) for request in requests]

    def similar_items(
        self, requests: Sequence[pb.SimilarItemsRequest], _calls: Sequence[Call] = ()
    ) -> list[pb.SimilarItemsResponse | HeadraceError]:
        """Items that go with the item of each request."""
        return [self._one_similar(request) for request in requests]

    def _one_batch(self, batch: pb.RecommendBatchRequest) -> pb.RecommendBatchResponse | HeadraceError:
        try:
            check_count("requests", batch.requests, 1, MAX_BATCH)
        except InvalidRequestError as error:
            return error
        results = self.recommend(batch.requests)
        for index, result in enumerate(results):
            if isinstance(result, HeadraceError):
                return within(f"requests[{index}]", result)
        response = pb.RecommendBatchResponse()
        response.responses.extend(result for result in results if isinstance(result, pb.RecommendResponse))
        return response

    def _one_similar(self, request: pb.SimilarItemsRequest) -> pb.SimilarItemsResponse | HeadraceError:
        try:
            check_text("item_id", request.item_id, MAX_ID_BYTES, required=True)
            check_count("exclude_item_ids", request.exclude_item_ids, 0, MAX_EXCLUSIONS)
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


def _query(request: pb.RecommendRequest) -> Query | InvalidRequestError:
    try:
        check_text("user_id", request.user_id, MAX_ID_BYTES)
        check_text("anonymous_id", request.anonymous_id, MAX_ID_BYTES)
        check_text("surface", request.surface, MAX_LABEL_BYTES)
        check_count("exclude_item_ids", request.exclude_item_ids, 0, MAX_EXCLUSIONS)
        if request.repeat_policy not in _POLICIES:
            expected = f"one of {', '.join(pb.RepeatPolicy.keys())}"
            raise InvalidRequestError("repeat_policy", request.repeat_policy, expected, "leave it out for the default")
        limit = _limit(request)
    except InvalidRequestError as error:
        return error
    return Query(
        user_id=request.user_id,
        anonymous_id=request.anonymous_id,
        limit=limit,
        exclude_purchased=_POLICIES[request.repeat_policy],
        exclude_item_ids=request.exclude_item_ids,
        min_sequence=request.min_sequence,
        surface=request.surface,
    )


def _response(answer: Answer, with_attributes: bool) -> pb.RecommendResponse:
    response = pb.RecommendResponse(
        request_id=answer.request_id,
        artifact_version=answer.model.version,
        event_sequence=answer.event_sequence,
        tier=answer.tier,  # type: ignore[arg-type]
        cold_start=answer.cold_start,
    )
    _add_items(response, answer, with_attributes)
    return response


def _add_items(response: pb.RecommendResponse | pb.SimilarItemsResponse, answer: Answer, with_attributes: bool) -> None:
    items, add = answer.model.items, response.items.add
    ids, prices, attributes = items.ids, items.prices_micros, items.attributes
    for row, score in zip(answer.rows, answer.scores, strict=True):
        item = add(item_id=ids[row], score=score, price_micros=prices[row])
        if with_attributes:
            item.attributes.update(attributes[row])
