"""The README's "Serve it to others" runs as it stands, but for the ports."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
PORTS = ("50051", "8080", "9464")


def free_ports(n: int) -> list[str]:
    """Ports that nobody listens on, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [str(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def section() -> list[str]:
    """The shell blocks of the section, on free ports."""
    text = README.read_text().split("\n## Serve it to others\n")[1].split("\n## ")[0]
    for port, free in zip(PORTS, free_ports(len(PORTS)), strict=True):
        assert port in text
        text = text.replace(port, free)
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def shell(script: str, folder: Path) -> str:
    """What the script prints; a step that fails ends it and the test."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return ours | {"PATH": f"{Path(sys.executable).parent}:{ours['PATH']}", "HEADRACE_SERVER_WORKERS": "2"}


def test_a_server_for_others_is_made_as_the_readme_says(tmp_path: Path, artifacts: Path) -> None:
    artifacts.rename(tmp_path / "models")
    prepare, ask = section()
    steps, serve = prepare.rstrip().rsplit("\n", 1)
    found = shell(steps, tmp_path).splitlines()
    ours = [line for line in found if re.search("port|metrics|exposure|certificate|API keys|artifact", line)]
    assert len(ours) >= 9
    assert [line for line in ours if not line.startswith("ok")] == []
    secrets = ("keys.toml", "server.key", "shop.key", "exchange.key", "operator.key")
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in secrets} == {0o600}

    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            serve.split(), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("headrace serves artifact v1 on "), (tmp_path / "log").read_text()
        said = shell(ask, tmp_path)
    finally:
        server.terminate()
        server.communicate(timeout=30)
    assert server.returncode == 0
    assert said.startswith("SERVING\n")
    assert '\nheadrace_ledger_owned{tenant=""} 1.0\n' in said
    assert re.search(r"^HTTP/1\.1 20[04] ", said, re.MULTILINE)
    (backup,) = (tmp_path / "backups").iterdir()
    assert (backup / "headrace.db").exists()
