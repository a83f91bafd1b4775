"""A published artifact store and real server processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace import Client
from headrace.artifacts import ArtifactStore


class ServerProcess:
    """One ``headrace serve`` and a client of it.

    what it prints on stderr goes to ``log``.
    """

    def __init__(
        self, artifacts: Path, data: Path | None, log: Path, listen: str = "127.0.0.1:0", config: Path | None = None
    ) -> None:
        command = [sys.executable, "-m", "headrace", "serve"]
        command += ["--data", str(data)] if data else []
        # a file may change what it says while the server runs, the command line may not
        command += ["--config", str(config)] if config else ["--artifact", str(artifacts)]
        self.log = log
        with log.open("a") as stderr:
            self.process = subprocess.Popen(
                [*command, "--listen", listen],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=os.environ | {"HEADRACE_SERVER_WORKERS": "2"},
            )
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        assert self.ready_line, f"the server did not start:\n{log.read_text()}"
        self.address = self.ready_line.split()[-1]
        self.client = Client(self.address)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; returns the exit code."""
        self.send(number)
        return self.process.wait(30)

    def close(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, factories: ModuleType) -> Iterator[Client]:
    """A client of one server for all tests of a file that ask for no more; each has people and items of its own."""
    folder = tmp_path_factory.mktemp("shared")
    server = ServerProcess(_published(folder, factories), folder / "data", folder / "server.log")
    yield server.client
    server.close()
    print(server.log.read_text())


@pytest.fixture
def start(tmp_path: Path, artifacts: Path) -> Iterator[Start]:
    """Starts servers on one data folder, by default, and ends those that a test left running."""
    servers: list[ServerProcess] = []

    def start(data: Path | None = tmp_path / "data", **options: Any) -> ServerProcess:
        servers.append(ServerProcess(artifacts, data, tmp_path / "server.log", **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    for log in {server.log for server in servers}:
        print(log.read_text())  # pytest shows it beside a failure


@pytest.fixture
def artifacts(tmp_path: Path, factories: ModuleType) -> Path:
    """An artifact store with versions v1, which is published, and v2."""
    return _published(tmp_path, factories)


def _published(folder: Path, factories: ModuleType) -> Path:
    store = ArtifactStore(folder / "artifacts")
    for seed, version in enumerate(("v1", "v2")):
        factories.write_artifact(store, version, seed=seed)
    store.publish("v1")
    return folder / "artifacts"
