"""Messages that came compressed; gRPC would inflate them without a bound, so it is told not to."""

from __future__ import annotations

import zlib

from headrace.errors import InvalidRequestError

_MAGIC = b"\x1f\x8b"
_WRAPPER = 31


def inflated(body: bytes, most: int) -> bytes:
    """The message itself; what is not compressed comes back as it is.

    grpcio does not say whether a body is compressed, but no protobuf message begins as gzip does: its first byte
    would be of wire type 7, which there is none of.

    Raises InvalidRequestError for a broken stream, OverflowError for one of more than ``most`` bytes.
    """
    if not body.startswith(_MAGIC):
        return body
    stream = zlib.decompressobj(_WRAPPER)
    try:
        whole = stream.decompress(body, most + 1)
    except zlib.error as error:
        raise InvalidRequestError("the message is no gzip stream") from error
    if len(whole) > most:
        raise OverflowError
    if not stream.eof:
        raise InvalidRequestError("the message is a gzip stream without an end")
    return whole
