"""The arrows of the design: who may import whom, what the wheel holds, where kernels may look."""

from __future__ import annotations

import ast
import importlib.metadata
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINE = ROOT / "engine" / "headrace"
TRAINING = ROOT / "training" / "headrace_training"

FORBIDDEN = [
    # (importing package, what it must not import)
    ("headrace", "headrace_training"),
    ("headrace_training", "headrace.service"),
    ("headrace_training", "headrace.front"),
    ("headrace.kernels", "headrace.reference"),
    ("headrace.reference", "headrace.kernels"),
    ("headrace.recommend", "headrace.service"),
    ("headrace.recommend", "headrace.front"),
    ("headrace.recommend", "headrace.bidding"),
    ("headrace.bidding", "headrace.service"),
    ("headrace.bidding", "headrace.front"),
    ("headrace.ledger", "headrace.bidding"),
    ("headrace.ledger", "headrace.service"),
    ("headrace.ledger", "headrace.front"),
    ("headrace.state", "headrace.recommend"),
    ("headrace.state", "headrace.service"),
    ("headrace.events", "headrace.state"),
    ("headrace.events", "headrace.service"),
    ("headrace.telemetry", "headrace.service"),
    ("headrace.front", "headrace.recommend"),
    ("headrace.front", "headrace.bidding"),
    ("headrace.client", "headrace.service"),
]


def modules() -> Iterator[tuple[str, Path]]:
    for root in (ENGINE, TRAINING):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize(("importer", "forbidden"), FORBIDDEN)
def test_arrows_do_not_turn_round(importer: str, forbidden: str) -> None:
    offenders = [
        f"{module} imports {name}"
        for module, path in modules()
        if inside(module, importer)
        for name in imports(path)
        if inside(name, forbidden)
    ]
    assert offenders == []


def jitted_functions() -> set[str]:
    return {
        f"headrace.kernels.{path.stem}.{node.name}"
        for path in ENGINE.joinpath("kernels").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and any("njit" in ast.dump(item) for item in node.decorator_list)
    }


def test_kernels_call_only_kernels_of_their_own_file() -> None:
    """A cached kernel keeps its old machine code when a helper in another file changes."""
    jitted = jitted_functions()
    assert len(jitted) > 5
    for path in sorted(ENGINE.joinpath("kernels").glob("*.py")):
        assert imports(path).isdisjoint(jitted), path


def test_reference_is_imported_by_tests_only() -> None:
    for module, path in modules():
        if not inside(module, "headrace.reference"):
            assert not [name for name in imports(path) if inside(name, "headrace.reference")], path


def test_files_and_functions_stay_readable() -> None:
    long = []
    for module, path in modules():
        if inside(module, "headrace.v1"):
            continue
        text = path.read_text()
        if text.count("\n") > 400:
            long.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > 60:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {node.end_lineno - node.lineno + 1} lines")
    assert long == []


def test_tests_run_against_the_installed_package() -> None:
    # a build leaves another record of the distribution in the checkout, which says nothing of the install
    records = [found for found in importlib.metadata.distributions() if found.metadata["Name"] == "headrace"]
    urls = [json.loads(record.read_text("direct_url.json") or "{}") for record in records]
    import headrace

    where = Path(headrace.__file__).resolve()
    if any(url.get("dir_info", {}).get("editable") for url in urls):
        assert where.is_relative_to(ENGINE)
    else:
        assert "site-packages" in where.parts
        assert not where.is_relative_to(ROOT / "engine")


def test_wheel_has_two_top_levels() -> None:
    distribution = importlib.metadata.distribution("headrace")
    tops = set((distribution.read_text("top_level.txt") or "").split())
    assert tops == {"headrace", "headrace_training"}
