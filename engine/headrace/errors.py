"""Every error a caller can meet, as one tree.

HeadraceError
├── InvalidRequestError      a field of a call is wrong
│   └── PreconditionError    the call is well formed but the state does not allow it
├── NotFoundError            the named campaign, user or item does not exist
├── AlreadyExistsError       the id is taken
├── ConfigError              a configuration key is unknown or its value out of range
│   └── StrategyError        a user-written strategy says what it may not
├── DataError                a file of events, ratings or prices cannot be used
├── ArtifactError            an artifact cannot be used
│   ├── ArtifactMissingError
│   ├── ArtifactCorruptError     a checksum or a shape is off
│   ├── ArtifactTooNewError      written by a later format version
│   └── ArtifactRejectedError    publish refused it: metric or coverage fell
├── StoreError               the embedded store did not commit
│   ├── StoreFullError           no space left on the device
│   └── AuthorityUnreachableError  the authority did not answer; what it did is not known
├── LedgerError              money cannot be moved that way
│   ├── LedgerNotOwnerError      another process still owns the ledger
│   └── HolderRefusedError       the authority does not take this process for a holder (any more)
├── UnavailableError         no server took the call; it may be tried again
│   └── OverloadedError      refused for load
│       └── RateLimitError       this caller asks more often than it may
├── UnauthenticatedError     who calls is not known, or not any more
├── PermissionDeniedError    who calls is known and may not do this
├── DeadlineError            the answer did not come in time
└── ServerError              the server failed; its log has the details
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection

_NAMED = 20
"""Names that a hint lists at most."""


class HeadraceError(Exception):
    """The root of all errors raised on purpose.

    The text says what is wrong, what was expected and what to do about it:
    ``limit: got 0, expected a whole number from 1 to 1000; leave it out for 20.``
    """

    def __init__(self, what: str, got: object = None, expected: str = "", hint: str = "") -> None:
        self.what = what
        self.got = got
        self.expected = expected
        self.hint = hint
        text = what
        if expected:
            text += f": got {_short(got)}, expected {expected}"
        if hint:
            text += f"; {hint}"
        super().__init__(text)


def nearest(name: str, known: Collection[str], prefix: str = "") -> str:
    """The hint for a name that nobody knows: those that come near it, else those known; ``prefix`` before each."""
    near = difflib.get_close_matches(name, known, n=2)
    names = [prefix + each for each in near or sorted(known)[:_NAMED]]
    if near:
        return f"did you mean {' or '.join(names)}?"
    more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
    return f"known: {', '.join(names) or 'none'}{more}"


def reason_of(error: BaseException) -> str:
    """Why a file could not be read or written, as people say it: without number and path, which the caller names."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error) or type(error).__name__


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


class InvalidRequestError(HeadraceError):
    """A field of a call is missing, malformed or out of range."""


class PreconditionError(InvalidRequestError):
    """The call is well formed, but the present state does not allow it."""


class NotFoundError(HeadraceError):
    """The thing that a call names does not exist."""


class AlreadyExistsError(HeadraceError):
    """The id that a call wants to create is taken."""


class ConfigError(HeadraceError):
    """A configuration key is unknown or its value is out of range."""


class StrategyError(ConfigError):
    """A user-written bidding strategy says what it may not, or cannot be found."""


class DataError(HeadraceError):
    """A data file cannot be used as it is."""


class ArtifactError(HeadraceError):
    """An artifact cannot be used."""


class ArtifactMissingError(ArtifactError):
    """No artifact is where one was expected."""


class ArtifactCorruptError(ArtifactError):
    """A checksum, a shape or a file of the artifact is off."""


class ArtifactTooNewError(ArtifactError):
    """The artifact was written by a later version of the format."""


class ArtifactRejectedError(ArtifactError):
    """Publishing refused the artifact: its validation metric or coverage fell beyond the tolerance."""


class StoreError(HeadraceError):
    """The embedded store did not commit."""


class StoreFullError(StoreError):
    """The device that holds the store is full."""


class AuthorityUnreachableError(StoreError):
    """The authority did not answer: the call may have been carried out or not."""


class LedgerError(HeadraceError):
    """Money cannot be moved that way."""


class LedgerNotOwnerError(LedgerError):
    """Another process owns the ledger; bids are refused until it lets go."""


class HolderRefusedError(LedgerError):
    """The authority refuses a holder: fenced, registered again elsewhere, or with books that do not fit."""


class LostRenewalError(HolderRefusedError):
    """The authority does not know of renewals that it answered: a standby that lagged behind, or a backup."""


class UnavailableError(HeadraceError):
    """No server took the call; the same call may succeed later."""


class OverloadedError(UnavailableError):
    """Refused for load; the same call may succeed later."""


class RateLimitError(OverloadedError):
    """This caller asks more often than it may; the same call succeeds later."""


class UnauthenticatedError(HeadraceError):
    """The call carries no key or certificate that is known and in force."""


class PermissionDeniedError(HeadraceError):
    """The caller's role does not include this call."""


class DeadlineError(HeadraceError):
    """The answer did not come within the call's deadline; the call may have been carried out."""


class ServerError(HeadraceError):
    """The server failed on a call that is not to blame; its log has the details."""
