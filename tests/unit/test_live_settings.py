"""Settings that change while a server runs: which may, all or none, and what the others wait for."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from headrace.config import Config, known_keys, live_keys, load_config, section_classes
from headrace.errors import ArtifactMissingError, ConfigError
from headrace.operations.live import LiveSettings

DOCS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")


class Desk:
    """A configuration file, and parts that keep what they were given."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "headrace.toml"
        self.write("")
        self.live = LiveSettings(self.read(), self.read)
        self.heard: list[Any] = []

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def read(self) -> Config:
        return load_config(self.file, environment={})


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_live_keys_are_taken_over_and_others_wait(desk: Desk) -> None:
    desk.live.register("server", desk.heard.append)
    desk.write("[server]\ndrain_grace_s = 7.0\nworkers = 3\n[bidding]\nmax_tries = 2\nmax_ahead_ms = 5\n")
    reloaded = desk.live.reload()
    assert reloaded.changed == ["server.drain_grace_s", "bidding.max_ahead_ms"]
    assert reloaded.waiting == ["server.workers", "bidding.max_tries"]
    (server,) = desk.heard
    assert (server.drain_grace_s, server.workers) == (7.0, 0)
    assert desk.live.config.bidding.max_ahead_ms == 5
    assert desk.live.reload().changed == []
    assert desk.live.reload().waiting == ["server.workers", "bidding.max_tries"]
    assert len(desk.heard) == 3, "files that a section names are read again"


def test_bad_input_a_wrong_file_changes_nothing_and_says_why(desk: Desk) -> None:
    desk.live.register("server", desk.heard.append)
    before = desk.live.config
    for text, why in (("[server]\ndrain_grace_s = -1.0\n", "drain_grace_s"), ("[server\n", "cannot be read")):
        desk.write(text)
        with pytest.raises(ConfigError, match=why):
            desk.live.reload()
    desk.file.unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        desk.live.reload()
    assert desk.live.config is before
    assert desk.heard == []


def test_a_part_that_cannot_follow_takes_the_others_back(desk: Desk) -> None:
    def refuse(server: Any) -> None:
        if server.artifact:
            raise ArtifactMissingError("no artifact there")

    desk.live.register("bidding", desk.heard.append)
    desk.live.register("server", refuse)
    desk.write('[server]\nartifact = "nowhere"\n[bidding]\nmax_ahead_ms = 5\n')
    before = desk.live.config
    with pytest.raises(ArtifactMissingError):
        desk.live.reload()
    assert [bidding.max_ahead_ms for bidding in desk.heard] == [5, before.bidding.max_ahead_ms]
    assert desk.live.config is before


def test_tenants_wait_for_a_restart(desk: Desk) -> None:
    desk.write('[tenants.a]\nartifact = "x"\ndata = "y"\n')
    assert desk.live.reload().waiting == ["tenants"]


def test_every_live_key_is_a_key_and_the_docs_name_exactly_those() -> None:
    live = {f"{section}.{key}" for section in section_classes() for key in live_keys(section)}
    assert live <= {f"{section}.{key}" for section, key, _ in known_keys()}
    table = DOCS.partition("## Change settings")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([a-z_.0-9]+)` \|", table, re.MULTILINE))
    assert named == live
    for section in section_classes().values():
        assert getattr(section, "LIVE", frozenset()) <= {entry.name for entry in dataclasses.fields(section)}
