"""docs/training.md tells of every command, option and setting there is, with the defaults that hold."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import typer.main

from headrace_training.cli import app
from headrace_training.mapping import read_mapping
from headrace_training.models import MODELS
from headrace_training.settings import DEFAULT_EVENT_WEIGHTS, FitSettings

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_and_option_is_documented(name: str) -> None:
    assert f"headrace-train {name}" in TEXT
    for parameter in COMMANDS[name].params:
        for option in (text for text in parameter.opts if text.startswith("--")):
            assert option in TEXT, f"headrace-train {name} {option}"


@pytest.mark.parametrize("field", msgspec.structs.fields(FitSettings), ids=lambda field: field.name)
def test_every_setting_is_documented_with_its_default(field: msgspec.structs.FieldInfo) -> None:
    row = next((line for line in TEXT.splitlines() if line.startswith(f"| `{field.name}` |")), "")
    default = row.split("|")[3].strip() if row else ""
    if field.name == "event_weights":
        assert default == ", ".join(f"{name} {weight:g}" for name, weight in DEFAULT_EVENT_WEIGHTS.items())
    elif isinstance(field.default, bool):
        assert default == str(field.default).lower()
    else:
        assert default == (f"{field.default:g}" if isinstance(field.default, int | float) else field.default)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_is_documented(name: str) -> None:
    assert f"| `{name}` |" in TEXT


def test_the_documented_mapping_is_one(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text("\n".join(re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)))
    mapping = read_mapping(path, {})
    assert mapping.columns.user == "CustomerID"
    assert [mapping.type_number(word) for word in ("BUY", "look", "ping", "hum")] == [3, 1, 0, -1]
