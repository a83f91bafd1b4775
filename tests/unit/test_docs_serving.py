"""docs/serving.md tells of every command, flag and setting there is, and of no setting there is not."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from headrace.cli import app
from headrace.config import Config, TenantConfig, known_keys, load_config, section_classes

TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text("utf-8")


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name, command


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_documented(name: str) -> None:
    assert f"headrace {name}" in TEXT
    for parameter in COMMANDS[name].params:
        for option in (text for text in parameter.opts if text.startswith("--")):
            assert f"{option}" in TEXT, f"headrace {name} {option}"


@pytest.mark.parametrize(("section", "key", "default"), list(known_keys()))
def test_every_setting_is_documented_with_its_default(section: str, key: str, default: object) -> None:
    block = TEXT.partition(f"\n[{section}]\n")[2].partition("```")[0].partition("\n[")[0].splitlines()
    row = next((row for row, line in enumerate(block) if line.startswith(f"{key} = ")), None)
    assert row is not None, f"[{section}] {key} is missing"
    assert block[row - 1].startswith("# "), f"[{section}] {key} needs a word of what it means"


def test_the_documented_file_is_the_default(tmp_path: Path) -> None:
    file = tmp_path / "documented.toml"
    file.write_text("\n".join(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)))
    assert load_config(file, environment={}) == Config()


def test_every_setting_has_a_comment_with_its_unit_or_meaning() -> None:
    for section in [*section_classes().values(), TenantConfig]:
        source = Path(str(__import__(section.__module__, fromlist=["_"]).__file__)).read_text("utf-8").splitlines()
        for entry in dataclasses.fields(section):
            row = next(i for i, line in enumerate(source) if line.startswith(f"    {entry.name}: "))
            assert source[row - 1].strip().startswith("#"), f"{section.__name__}.{entry.name}"
