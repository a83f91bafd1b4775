"""What is missing of the system is installed where that may be, else told in one line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "system-packages"
TOOLS = ("sh", "dirname", "chmod")


def run(folder: Path, *arguments: str, user: int, **programs: str) -> subprocess.CompletedProcess[str]:
    """Run it on a machine that has a few tools and ``programs``, shell scripts by name."""
    programs = {"id": f"echo {user}", **programs}
    for tool in {*TOOLS} - {*programs}:  # what is written to must be no link to the machine's own
        (folder / tool).symlink_to(shutil.which(tool) or "/bin/false")
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        [str(SCRIPT), *arguments], env={"PATH": str(folder)}, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(("what", "code"), [("fuzz", 1), ("bench", 0)])
def test_who_may_not_install_is_told_in_one_line(tmp_path: Path, what: str, code: int) -> None:
    done = run(tmp_path, what, user=1000, **{"pkg-config": "exit 1"})
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert "apt-get install" in done.stderr


def test_root_gets_clang_and_its_runtime(tmp_path: Path) -> None:
    clang = tmp_path / "clang++"
    installs = (
        f'case $1 in install) echo "$@" >> {tmp_path}/log; printf "#!/bin/sh\\n" > {clang}; chmod +x {clang};; esac'
    )
    done = run(tmp_path, "fuzz", user=0, **{"apt-get": installs})
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log").read_text() == "install -y -qq --no-install-recommends clang libclang-rt-dev\n"


def test_an_older_release_has_the_runtime_beside_clang(tmp_path: Path) -> None:
    refuses = f'echo "$@" >> {tmp_path}/log; case "$*" in *rt-dev*) exit 100;; esac'
    done = run(tmp_path, "fuzz", user=0, **{"apt-get": refuses})
    assert done.returncode == 1, "there is no clang after all"
    log = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[-1] for line in log] == ["-qq", "libclang-rt-dev", "clang"]
