"""Budget days at clock changes, by the calendars of real zones."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from headrace.errors import InvalidRequestError
from headrace.ledger.days import local_day, time_zone


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


@pytest.mark.parametrize(
    ("zone", "moment", "start", "end"),
    [
        ("UTC", "2026-03-29T12:00", "2026-03-29T00:00", "2026-03-30T00:00"),
        ("Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("America/New_York", "2025-11-02T04:00", "2025-11-02T04:00", "2025-11-03T05:00"),  # first moment of 25 hours
        ("America/New_York", "2025-11-03T04:59:59", "2025-11-02T04:00", "2025-11-03T05:00"),  # its last second
        ("America/Sao_Paulo", "2018-11-04T12:00", "2018-11-04T03:00", "2018-11-05T02:00"),  # its midnight was skipped
        ("Pacific/Apia", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),  # before the day that never was
        ("Pacific/Kiritimati", "2026-01-01T10:00", "2026-01-01T10:00", "2026-01-02T10:00"),
    ],
)
def test_bounds(zone: str, moment: str, start: str, end: str) -> None:
    day, start_ms, end_ms = local_day(time_zone(zone), ms(moment))
    assert (start_ms, end_ms) == (ms(start), ms(end))
    assert start_ms <= ms(moment) < end_ms
    assert local_day(time_zone(zone), end_ms)[0] > day


def test_day_numbers_count_local_dates() -> None:
    assert local_day(time_zone("UTC"), 0)[0] == 0
    assert local_day(time_zone("Pacific/Auckland"), ms("1970-01-01T12:00"))[0] == 1
    assert local_day(time_zone("America/New_York"), 0)[0] == -1


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "Europe/"])
def test_unknown_zone(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="IANA"):
        time_zone(name)
