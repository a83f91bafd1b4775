"""Budget days: the local dates of IANA time zones as numbers, with their exact bounds."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from headrace.errors import InvalidRequestError

_EPOCH = date(1970, 1, 1).toordinal()


def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name; empty is UTC. Raises InvalidRequestError for an unknown name."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequestError("time_zone", name, "an IANA name such as Europe/Berlin") from error


def local_day(zone: ZoneInfo, now_ms: int) -> tuple[int, int, int]:
    """The budget day at a moment: days since 1970-01-01 of the local date, its first ms and the next day's first ms.

    A day is 23 to 25 hours long where clocks change; a midnight that is skipped is the moment of the change.
    """
    today = (datetime.fromtimestamp(now_ms // 1000, UTC).astimezone(zone)).date()
    return today.toordinal() - _EPOCH, _start_ms(today, zone), _start_ms(today + timedelta(days=1), zone)


def _start_ms(day: date, zone: ZoneInfo) -> int:
    return round(datetime.combine(day, time.min, zone).timestamp()) * 1000
