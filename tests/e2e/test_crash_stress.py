"""A small run of `make crash`: the exchange's books, kills, power losses, and the auditor's word at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def stress(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(ROOT / "benchmarks" / "crash.py"), "--folder", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def test_nothing_is_overspent_and_every_bill_is_booked_once(tmp_path: Path) -> None:
    done = stress(tmp_path, "--operations", "30000", "--kills", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("over: 0 micros\n")


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    first = stress(tmp_path, "--operations", "20000", "--kills", "4", "--only", "one", "--minutes", "0")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0 kills" in first.stdout
    again = stress(tmp_path, "--operations", "20000", "--kills", "4", "--only", "one")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "over: 0 micros" in again.stdout
