"""docs/security.md shows files that work, and the roles as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from headrace.commands.keys import app
from headrace.config import TenantConfig, load_config
from headrace.security.keys import read_keyring
from headrace.security.roles import BID_ROUTE, GRANTS, METRICS, Role

TEXT = (Path(__file__).parents[2] / "docs" / "security.md").read_text("utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def test_the_settings_shown_are_settings(tmp_path: Path) -> None:
    shown = [block for block in BLOCKS if "[[" not in block]
    assert len(shown) == 3
    for block in shown:
        (tmp_path / "shown.toml").write_text(block)
        load_config(tmp_path / "shown.toml", environment={})
    tenants = load_config(tmp_path / "shown.toml", environment={}).tenants
    assert tenants["tea"] == TenantConfig(artifact="/srv/tea/artifacts", data="/srv/tea/data")


def test_the_certificate_shown_is_one(tmp_path: Path) -> None:
    shown = [block for block in BLOCKS if "[[" in block]
    assert len(shown) == 2
    file = tmp_path / "keys.toml"
    for block in shown:
        file.write_text(block + "expires = 2027-01-01T00:00:00Z\ndisabled = true\n")
        file.chmod(0o600)
        assert read_keyring(file).certificates[0].role == Role.AD_PLATFORM


@pytest.mark.parametrize("role", sorted(Role))
def test_the_row_of_a_role_names_what_it_may(role: Role) -> None:
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{role}` |"))
    services = {method.split("/")[1].rpartition(".")[2] for method in GRANTS[role] if method.startswith("/headrace")}
    routes = {route for route in (BID_ROUTE, METRICS) if route in GRANTS[role]}
    for name in services | routes if role != Role.ADMIN else {"everything"}:
        assert name in row
    others = {name for each in GRANTS.values() for name in each if name.startswith("/headrace")} - GRANTS[role]
    for service in {name.split("/")[1].rpartition(".")[2] for name in others} - services:
        assert service not in row


def test_every_command_is_shown() -> None:
    for name in typer.main.get_command(app).commands:  # type: ignore[attr-defined]
        assert f"headrace keys {name} " in TEXT
