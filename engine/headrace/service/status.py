"""What a caller sees of an error: the one place that maps classes to gRPC status codes.

A status text starts with the class: ``NotFoundError: campaign c7 does not exist``. So a client in any language can tell
errors apart that share a code, and the Python client raises the same class that the server did.
"""

from __future__ import annotations

import logging
import secrets

import grpc

from headrace import errors
from headrace.errors import HeadraceError
from headrace.front import Reply

_log = logging.getLogger("headrace.service")

_CODES: dict[type[HeadraceError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.ConfigError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.DataError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ArtifactError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ArtifactMissingError: grpc.StatusCode.NOT_FOUND,
    errors.ArtifactCorruptError: grpc.StatusCode.DATA_LOSS,
    errors.StoreError: grpc.StatusCode.UNAVAILABLE,
    errors.StoreFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LedgerError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.RateLimitError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ServerError: grpc.StatusCode.INTERNAL,
    HeadraceError: grpc.StatusCode.INTERNAL,
}


def code_of(error: HeadraceError) -> grpc.StatusCode:
    """The gRPC status of an error: that of its class or of the nearest class above it."""
    return next(_CODES[cls] for cls in type(error).__mro__ if cls in _CODES)


def reply_of(error: Exception, **context: str) -> Reply:
    """The answer for a call that failed; an error not raised on purpose is logged and its text kept from the caller.

    context : what the log's line says besides, such as the method and the tenant.
    """
    if isinstance(error, HeadraceError):
        return Reply(status=code_of(error).value[0], message=f"{type(error).__name__}: {error}")
    request_id = secrets.token_hex(8)
    _log.error("request %s failed", request_id, exc_info=error, extra={"request_id": request_id, **context})
    text = f"ServerError: an internal error; the server's log tells more under request {request_id}"
    return Reply(status=grpc.StatusCode.INTERNAL.value[0], message=text)
