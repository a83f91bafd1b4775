"""Settings from a TOML file and from flags, checked against a struct."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from headrace.errors import ConfigError

S = TypeVar("S", bound=msgspec.Struct)


def read_toml(path: Path | None, guide: str = "docs/training.md") -> dict[str, Any]:
    """What a TOML file says, nothing without one; ConfigError, which names the guide, when it cannot be read."""
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path} cannot be read: {reason}", hint=f"see {guide} for an example") from error


def convert(path: Path | None, values: dict[str, Any], flags: dict[str, Any], kind: type[S]) -> S:
    """The struct of a file's values with the flags on top; ConfigError names the key and where it was set."""
    merged = {**values, **flags}
    try:
        return msgspec.convert(merged, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ConfigError):
            raise error.__cause__ from None
        for field in msgspec.structs.fields(kind):
            words = get_args(field.type) if get_origin(field.type) is Literal else ()
            value = merged.get(field.name, field.default)
            if words and value not in words:
                place = f"--{field.name.replace('_', '-')}" if field.name in flags else f"{path}: {field.name}"
                expected = f"{', '.join(words[:-1])} or {words[-1]}"
                raise ConfigError(place, got=value, expected=expected) from error
        raise ConfigError(f"{path or 'options'}: {error}", hint="see the table in docs/training.md") from error
