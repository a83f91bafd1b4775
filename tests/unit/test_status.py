"""Errors to gRPC status and back."""

from __future__ import annotations

import logging

import grpc
import pytest

from headrace import errors
from headrace.client.errors import error_of
from headrace.errors import HeadraceError
from headrace.service.status import code_of, reply_of

CODES = {code.value[0]: code for code in grpc.StatusCode}


def all_classes(root: type[HeadraceError] = HeadraceError) -> list[type[HeadraceError]]:
    return [root, *(found for child in root.__subclasses__() for found in all_classes(child))]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequestError, grpc.StatusCode.INVALID_ARGUMENT),
        (errors.PreconditionError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.NotFoundError, grpc.StatusCode.NOT_FOUND),
        (errors.AlreadyExistsError, grpc.StatusCode.ALREADY_EXISTS),
        (errors.ArtifactCorruptError, grpc.StatusCode.DATA_LOSS),
        (errors.ArtifactTooNewError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.StoreError, grpc.StatusCode.UNAVAILABLE),
        (errors.StoreFullError, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (errors.LedgerNotOwnerError, grpc.StatusCode.FAILED_PRECONDITION),
        (errors.OverloadedError, grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_each_class_has_its_status(error: type[HeadraceError], code: grpc.StatusCode) -> None:
    assert code_of(error("x")) == code


@pytest.mark.parametrize("error", all_classes())
def test_every_class_survives_the_way_to_the_client(error: type[HeadraceError]) -> None:
    reply = reply_of(error("what", 3, "something else", "do this"))
    back = error_of(CODES[reply.status], reply.message)
    assert type(back) is error
    assert str(back) == "what: got 3, expected something else; do this"


def test_unknown_exception_keeps_its_text_from_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        reply = reply_of(KeyError("customer 4711"))
    assert reply.status == grpc.StatusCode.INTERNAL.value[0]
    assert "4711" not in reply.message
    assert "4711" in caplog.text
    assert type(error_of(grpc.StatusCode.INTERNAL, reply.message)) is errors.ServerError


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", errors.UnavailableError),
        (grpc.StatusCode.CANCELLED, "CANCELLED", errors.UnavailableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max", errors.InvalidRequestError),
        (grpc.StatusCode.UNKNOWN, "", errors.ServerError),
        (grpc.StatusCode.NOT_FOUND, "ValueError: not one of ours", errors.NotFoundError),
    ],
)
def test_status_of_the_transport_itself(code: grpc.StatusCode, text: str, expected: type[HeadraceError]) -> None:
    assert type(error_of(code, text)) is expected
