"""What msgspec says of a file's values, in the words of TOML and with the whole path of the key."""

from __future__ import annotations

import copy
import re
from typing import Any

import msgspec

_WORDS = {
    "Object contains unknown field": "unknown key",
    "Object missing required field": "missing key",
    "`object`": "a table",
    "`array`": "a list",
}


def wrong_value(error: msgspec.ValidationError, values: dict[str, Any], kind: Any) -> str:
    """``exchanges[0].countries."de": …`` of the error that converting the values to a type raised.

    msgspec leaves out which key of a table of names is wrong; it is the one that fails alone as all of them did.
    """
    text, path, is_key = str(error), "", False
    if found := re.search(r" - at (`key` in )?`\$\.?(.*)`$", text):
        text, path, is_key = text[: found.start()], found[2], bool(found[1])
    for word, ours in _WORDS.items():
        text = text.replace(word, ours)
    table, inside, rest = path.partition("[...]")
    if inside or is_key:
        name = next(name for name in _part(values, table) if _fails(error, values, kind, (table, name)))
        table += f'."{name}"'
    return f"{table}{rest}: {text}" if table else text


def _fails(error: msgspec.ValidationError, values: dict[str, Any], kind: Any, key: tuple[str, str]) -> bool:
    alone = copy.deepcopy(values)
    part = _part(alone, key[0])
    for other in part.keys() - {key[1]}:
        del part[other]
    try:
        msgspec.convert(alone, kind)
    except msgspec.ValidationError as again:
        return str(again) == str(error)
    return False


def _part(values: Any, path: str) -> Any:
    """What stands at a path such as ``exchanges[0].countries``."""
    for step in re.findall(r"[^.\[\]]+", path):
        values = values[int(step) if isinstance(values, list) else step]
    return values
