"""Whether the law or the person lets a bid request's user be known."""

from __future__ import annotations

import base64
import binascii

from headrace.service.openrtb_models import BidRequest, Device, Regs, User

_PURPOSES_BIT = 152
_NEEDED = (1, 4)
"""Purposes of the TCF: store on a device, and select personalised advertisements."""


def may_know(request: BidRequest) -> bool:
    """Whether the user's ids and segments may be used; without it only the context may."""
    regs, device = request.regs or _NO_REGS, request.device or _NO_DEVICE
    if regs.coppa or device.dnt or device.lmt:
        return False
    extension = regs.ext
    us_privacy = regs.us_privacy or (extension.us_privacy if extension else None) or ""
    if us_privacy[2:3] in ("Y", "y"):
        return False
    gdpr = regs.gdpr if regs.gdpr is not None else extension.gdpr if extension else None
    return not gdpr or _consents(_consent_string(request.user))


_NO_REGS, _NO_DEVICE = Regs(), Device()


def _consent_string(user: User | None) -> str:
    if user is None:
        return ""
    return user.consent or (user.ext.consent if user.ext else None) or ""


def _consents(text: str) -> bool:
    """Whether the core of a TCF 2 string grants the purposes; a string that cannot be read grants none."""
    core = text.partition(".")[0]
    try:
        bits = base64.b64decode(core + "=" * (-len(core) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return False
    if len(bits) * 8 < _PURPOSES_BIT + 24 or bits[0] >> 2 != 2:
        return False
    return all(bits[(_PURPOSES_BIT + n - 1) // 8] >> (7 - (_PURPOSES_BIT + n - 1) % 8) & 1 for n in _NEEDED)
