"""The hand-written stub of the compiled core names what the core has, no more and no less."""

from __future__ import annotations

import ast
from pathlib import Path

from headrace import _native

STUB = Path(__file__).parents[2] / "engine" / "headrace" / "_native.pyi"


def test_the_stub_matches_the_core() -> None:
    tree = ast.parse(STUB.read_text())
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    public = {name for name in vars(_native) if not name.startswith("_")}
    assert public == classes.keys() | functions
    for name, node in classes.items():
        said = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        said |= {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        has = {member for member in vars(getattr(_native, name)) if not member.startswith("_")}
        assert {member for member in said if not member.startswith("_")} == has, name
