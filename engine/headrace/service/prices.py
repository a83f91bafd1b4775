"""Prices between the decimals of OpenRTB and micros, exactly."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_PRICE = re.compile(r"[0-9]{1,10}(?:\.[0-9]{0,18})?(?:[eE][+-]?[0-9]{1,2})?")


def decimal_of(micros: int) -> bytes:
    """Micros as a JSON number in units: 1_250_000 is ``1.25``."""
    units, rest = divmod(micros, 1_000_000)
    return b"%d.%06d" % (units, rest)


def floor_micros(units: float) -> int:
    """Micros of a floor in units, rounded up: whoever bids them is not below it.

    units : at most 1e9, so that a decimal with six places or fewer comes out as it was written.
    """
    micros = round(units * 1e6)
    return micros + 1 if micros / 1e6 < units else micros


def price_micros(text: str) -> int | None:
    """Micros of a price in units as an exchange writes it, rounded up; None for what is no price."""
    if not _PRICE.fullmatch(text):
        return None
    price = Decimal(text)
    return int((price * 1_000_000).to_integral_value(ROUND_CEILING)) if price <= 10**10 else None
