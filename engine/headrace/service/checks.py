"""The limits that the protos state, enforced with one wording."""

from __future__ import annotations

from collections.abc import Collection, Sized

from headrace.errors import HeadraceError, InvalidRequestError

MAX_ID_BYTES = 256
MAX_LABEL_BYTES = 64


def check_text(field: str, value: str, max_bytes: int, *, required: bool = False) -> None:
    """Raise InvalidRequestError unless the text is at most so many bytes, without NUL, and there when required."""
    if not value:
        if required:
            raise InvalidRequestError(field, "", f"1 to {max_bytes} bytes", "fill it in")
        return
    # A character takes at most four bytes, so short texts need no encoding.
    if len(value) * 4 > max_bytes and len(value.encode()) > max_bytes:
        raise InvalidRequestError(field, f"{len(value.encode())} bytes", f"at most {max_bytes} bytes", "shorten it")
    if "\0" in value:
        raise InvalidRequestError(field, value, "a text without the character NUL", "send the id as it is printed")


def check_count(field: str, values: Sized, least: int, most: int) -> None:
    """Raise InvalidRequestError unless a repeated field has from ``least`` to ``most`` elements."""
    n = len(values)
    if not least <= n <= most:
        hint = "send fewer at once" if n > most else "send at least one"
        raise InvalidRequestError(field, f"{n} elements", f"{least} to {most}", hint)


def check_ids(field: str, ids: Collection[str], most: int) -> None:
    """Raise InvalidRequestError unless there are at most so many ids, none of them too long."""
    check_count(field, ids, 0, most)
    # one pass without a call an element, as these lists are long
    if max(map(len, ids), default=0) * 4 > MAX_ID_BYTES:
        for index, name in enumerate(ids):
            if len(name.encode()) > MAX_ID_BYTES:
                got, expected = f"{len(name.encode())} bytes", f"at most {MAX_ID_BYTES} bytes"
                raise InvalidRequestError(f"{field}[{index}]", got, expected, "shorten it")


def check_range(field: str, value: int, least: int, most: int, hint: str) -> None:
    """Raise InvalidRequestError unless a whole number lies in [least, most]."""
    if not least <= value <= most:
        raise InvalidRequestError(field, value, f"a whole number from {least} to {most}", hint)


def within(place: str, error: HeadraceError) -> HeadraceError:
    """The same error about a field of an element of the request."""
    return type(error)(f"{place}.{error.what}", error.got, error.expected, error.hint)
