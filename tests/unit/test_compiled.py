"""Kernels can be used where neither their folder nor the user's cache can be written to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from numba import config

from headrace.compiled import keep_compiled


@pytest.fixture(autouse=True)
def no_folder_of_the_callers_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def closed(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """As root, a folder's mode forbids nothing; so the question is answered here."""

    def access(path: str | Path, mode: int) -> bool:
        return not any(Path(path).is_relative_to(folder) for folder in folders)

    monkeypatch.setattr(os, "access", access)


def test_a_private_folder_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    closed(monkeypatch, Path("/"))
    keep_compiled(tmp_path)
    assert Path(config.CACHE_DIR).parent == tmp_path
    assert stat.S_IMODE(os.stat(config.CACHE_DIR).st_mode) == 0o700
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err


@pytest.mark.parametrize("open_one", ["package", "cache"])
def test_one_of_both_places_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, open_one: str) -> None:
    for name in ("package", "cache"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    closed(monkeypatch, *(tmp_path / name for name in ("package", "cache") if name != open_one))
    keep_compiled(tmp_path / "package")
    # no folder named: Numba keeps the code beside the kernels
    assert {"package": "", "cache": str(tmp_path / "cache" / "headrace")}[open_one] == config.CACHE_DIR


def test_an_uninstall_leaves_nothing_behind_where_the_users_cache_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not there yet"))
    keep_compiled(tmp_path / "package")
    assert str(tmp_path / "not there yet" / "headrace") == config.CACHE_DIR


def test_the_callers_folder_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "mine"))
    closed(monkeypatch, Path("/"))
    keep_compiled(tmp_path)
    assert str(tmp_path / "mine") == config.CACHE_DIR
