"""Settings of a running server that change without a restart."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from headrace.config import Config, live_keys, section_classes
from headrace.errors import HeadraceError

Apply = Callable[[Any], object]
"""Takes over a section of the configuration; raises HeadraceError, having changed nothing, where it cannot."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Keys as ``section.key``: those that changed, and those that differ but wait for a restart."""

    changed: list[str]
    waiting: list[str]


class LiveSettings:
    """What a process runs with; parts register for the sections of which they take over live keys.

    config : what it was started with. read : reads the configuration anew, as at the start.
    """

    def __init__(self, config: Config, read: Callable[[], Config]) -> None:
        self.config = config
        self._read = read
        self._parts: list[tuple[str, Apply]] = []
        self._one_at_a_time = threading.Lock()

    def register(self, section: str, apply: Apply) -> None:
        """Call ``apply`` with that section at every reload, changed or not, since files that it names may have changed.

        What it is given differs from the section in force by live keys alone (``LIVE`` of the section's class).
        """
        self._parts.append((section, apply))

    def reload(self) -> Reloaded:
        """Read the configuration anew and take over its live keys: all parts do, or none.

        Raises ConfigError for a file that is wrong, and what a part raises; the settings in force stay then.
        """
        with self._one_at_a_time:
            wanted = self._read()
            reloaded = Reloaded(*_differences(self.config, wanted))
            config = _taken_over(self.config, wanted)
            self._apply(config)
            self.config = config
            return reloaded

    def _apply(self, config: Config) -> None:
        done: list[tuple[str, Apply]] = []
        try:
            for section, apply in self._parts:
                apply(getattr(config, section))
                done.append((section, apply))
        except HeadraceError:
            for section, apply in reversed(done):
                apply(getattr(self.config, section))
            raise


def _differences(before: Config, after: Config) -> tuple[list[str], list[str]]:
    changed: list[str] = []
    waiting: list[str] = []
    for section, key in _different_keys(before, after):
        (changed if key in live_keys(section) else waiting).append(f"{section}.{key}")
    if before.tenants != after.tenants:
        waiting.append("tenants")
    return changed, waiting


def _different_keys(before: Config, after: Config) -> Iterator[tuple[str, str]]:
    for section, kind in section_classes().items():
        old, new = getattr(before, section), getattr(after, section)
        for entry in dataclasses.fields(kind):
            if getattr(old, entry.name) != getattr(new, entry.name):
                yield section, entry.name


def _taken_over(before: Config, after: Config) -> Config:
    """The configuration before with the live keys of the one after."""
    sections = {
        section: dataclasses.replace(
            getattr(before, section), **{key: getattr(getattr(after, section), key) for key in live_keys(section)}
        )
        for section in section_classes()
    }
    return dataclasses.replace(before, **sections)
