"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from headrace.errors import InvalidRequestError


def time_ms(what: str, text: str) -> int:
    """Milliseconds since 1970 UTC of an ISO 8601 date or time, UTC where it names no zone.

    Raises InvalidRequestError.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequestError(what, text, "an ISO 8601 time such as 2026-05-01T00:00:00Z") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)
