"""The hand-written stubs of the compiled modules name what those have, no more and no less."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[2] / "engine" / "headrace"


@pytest.mark.parametrize("name", ["_native", "_door"])
def test_the_stub_matches_the_core(name: str) -> None:
    if name == "_door" and "CI" not in os.environ and importlib.util.find_spec("headrace._door") is None:
        pytest.skip("the native door is not built here")
    compiled = importlib.import_module(f"headrace.{name}")
    tree = ast.parse((STUBS / f"{name}.pyi").read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    public = {name for name in vars(compiled) if not name.startswith("_")}
    constants = {
        node.target.id for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    assert public == classes.keys() | functions | constants
    for name, node in classes.items():
        said = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        said |= {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        has = {member for member in vars(getattr(compiled, name)) if not member.startswith("_")}
        assert {member for member in said if not member.startswith("_")} == has, name
