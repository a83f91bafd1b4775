"""How a file's columns become events; from a TOML file, overridden by flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from headrace.errors import ConfigError
from headrace_training.toml import convert, read_toml

EVENT_TYPES = {"view": 1, "cart": 2, "purchase": 3, "return": 4, "share": 5, "click": 6, "impression": 7}
"""Names of event types with their numbers in events.proto."""


class Columns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of the file's columns; "" where the file has none.

    user, item and time must exist. The others are taken when a column of the default name exists, and must exist when
    another name is given.
    """

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    type: str = "event_type"
    quantity: str = "quantity"
    price: str = "price"
    channel: str = "channel"
    event_id: str = "event_id"


class Mapping(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that `headrace-train ingest` must know of a file."""

    columns: Columns = Columns()
    event_types: dict[str, str] = {}
    """The file's word for a type → view, cart, purchase, return, share, click, impression, or "" to drop the row."""
    default_type: str = "purchase"
    """Type of rows without one."""
    default_channel: str = ""
    """Channel of rows without one."""
    time_format: str = ""
    """strptime format; "" for ISO 8601 and bare numbers."""
    time_unit: Literal["auto", "s", "ms", "us"] = "auto"
    """Unit of bare numbers; auto tells seconds from milliseconds by size."""
    timezone: str = "UTC"
    """Of times that do not name their own."""
    returns: Literal["return", "error", "drop"] = "return"
    """What a negative quantity means."""
    missing_user: Literal["drop", "error"] = "drop"
    """What becomes of rows without a user."""

    def __post_init__(self) -> None:
        for word, name in {**self.event_types, "default_type": self.default_type}.items():
            if name not in EVENT_TYPES and (name or word == "default_type"):
                raise ConfigError(f"event type of {word!r}", got=name, expected=", ".join(EVENT_TYPES))

    def type_number(self, word: str | None) -> int:
        """Number of the event type that a cell means: 0 to drop the row, -1 when nobody knows."""
        if word is None or not word.strip():
            return EVENT_TYPES[self.default_type]
        word = word.strip()
        if word in self.event_types:
            return EVENT_TYPES.get(self.event_types[word], 0)
        return EVENT_TYPES.get(word.lower(), -1)


def read_mapping(path: Path | None, overrides: dict[str, Any]) -> Mapping:
    """The mapping of a TOML file, if one is given, with what the flags say on top; None means not given.

    Raises ConfigError naming an unknown key or a value out of range.
    """
    settings = read_toml(path)
    columns = {name: overrides.pop(f"{name}_column", None) for name in Columns.__struct_fields__}
    given = {name: value for name, value in columns.items() if value is not None}
    flags = {name: value for name, value in overrides.items() if value is not None}
    if given:
        flags["columns"] = {**settings.get("columns", {}), **given}
    return convert(path, settings, flags, Mapping)
