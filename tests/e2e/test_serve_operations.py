"""What an operator does to a real server process: reload settings, back up, restore, start beside another program."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace import errors
from headrace.artifacts import ArtifactStore
from headrace.v1 import events_pb2


def headrace(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "headrace", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.01)


def test_settings_are_taken_over_under_load_by_rpc_and_by_signal(
    start: Any, artifacts: Path, tmp_path: Path, factories: ModuleType
) -> None:
    other = ArtifactStore(tmp_path / "other")
    factories.write_artifact(other, "w1", seed=3)
    other.publish("w1")
    file = tmp_path / "headrace.toml"
    file.write_text(f'[server]\nartifact = "{artifacts}"\n')
    server = start(config=file)
    over, failed = threading.Event(), []

    def ask() -> None:
        while not over.is_set():
            try:
                server.client.within(10).recommend("u1", limit=5)  # no call may fail, however slow the machine
            except errors.HeadraceError as error:
                failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        file.write_text(f'[server]\nartifact = "{other.root}"\nbatch_limit = 8\n')
        done = headrace("reload", "--config", "--at", server.address)
        assert done.returncode == 0
        assert done.stdout == "changed: server.artifact\nat the next start: server.batch_limit\n"
        assert server.client.current_artifact().artifact.version == "w1"

        file.write_text("[server]\nworker = 1\n")
        done = headrace("reload", "--config", "--at", server.address)
        assert (done.returncode, done.stdout) == (2, "")
        assert "did you mean server.workers" in done.stderr
        file.write_text(f'[server]\nartifact = "{tmp_path}/nowhere"\n')
        with pytest.raises(errors.ArtifactMissingError):
            server.client.reload_config()
        assert server.client.current_artifact().artifact.version == "w1"

        file.write_text(f'[server]\nartifact = "{artifacts}"\n')
        server.send(signal.SIGHUP)
        wait_until(lambda: server.client.current_artifact().artifact.version == "v1")
    finally:
        over.set()
        asking.join()
    assert failed == []
    assert server.stop() == 0
    assert "changed settings: server.artifact" in server.log.read_text()


def test_a_backup_of_a_running_server_is_restored_and_fenced(start: Any, tmp_path: Path) -> None:
    server = start()
    server.client.fund_advertiser("deposit-1", "acme", 1_000_000)
    event = events_pb2.Event(event_id="e1", user_id="u1", item_id="i1", type=events_pb2.EVENT_TYPE_VIEW, time_ms=1)
    sequence = server.client.record_events([event]).sequence
    backup, again = str(tmp_path / "backup"), tmp_path / "again"
    assert headrace("backup", "--data", str(tmp_path / "data"), "--to", backup).returncode == 0
    refused = headrace("restore", "--from", backup, "--data", str(tmp_path / "data"), "--move-old")
    assert refused.returncode == 2
    assert "a server is running" in refused.stderr
    server.stop(signal.SIGKILL)

    assert headrace("restore", "--from", backup, "--data", str(again)).returncode == 0
    restored = start(again)
    assert restored.client.record_events([event]).duplicates == 1
    (advertiser,) = restored.client.list_campaigns("acme").advertisers
    assert advertiser.budget_in_force_micros == 1_000_000
    later = events_pb2.Event(event_id="e2", user_id="u1", item_id="i1", type=events_pb2.EVENT_TYPE_VIEW, time_ms=2)
    assert restored.client.record_events([later]).sequence > sequence + 10**9
    lifted = headrace("fence", "--lift", "--reason", "reconciled", "--at", restored.address)
    assert (lifted.returncode, lifted.stdout) == (0, "the fence is lifted\n")
    assert headrace("fence", "--reason", "neither", "--at", restored.address).returncode == 2


def test_bad_input_a_port_of_another_program_is_one_line_and_leaves_nothing(artifacts: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = f"127.0.0.1:{other.getsockname()[1]}"
        data = tmp_path / "data"
        done = headrace("serve", "--artifact", str(artifacts), "--data", str(data), "--listen", listen)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no other program uses" in done.stderr
    assert not data.exists()
