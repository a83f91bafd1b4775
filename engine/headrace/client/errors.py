"""From a gRPC status back to the error it stands for."""

from __future__ import annotations

import re

import grpc

from headrace import errors
from headrace.errors import HeadraceError

_BY_NAME = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, HeadraceError)}

_BY_CODE: dict[grpc.StatusCode, type[HeadraceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.PreconditionError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InvalidRequestError,  # how the transport refuses an oversized message
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.CANCELLED: errors.UnavailableError,  # how the transport refuses calls while it shuts down
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineError,
}
"""For texts that name no class: those the transport writes itself."""


def error_of(code: grpc.StatusCode, text: str) -> HeadraceError:
    """The class that the text begins with, as a Headrace server writes it, else the nearest one to the code."""
    named = re.match(r"(\w+): ", text)
    if named and named[1] in _BY_NAME:
        return _BY_NAME[named[1]](text[named.end() :])
    return _BY_CODE.get(code, errors.ServerError)(text or code.name)
