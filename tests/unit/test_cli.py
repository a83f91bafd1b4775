"""The command line: exit codes, one-line errors, and a quick start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace import __version__
from headrace.config import load_config
from headrace.errors import ConfigError
from headrace.service.process import check_listen, exposures


def test_version(headrace: Any) -> None:
    assert headrace("version") == (0, f"headrace {__version__}\n", "")


def test_serving_limits_blas_to_one_thread_before_numpy_is_loaded() -> None:
    script = """
import os, sys
import headrace.cli
assert "numpy" not in sys.modules
try:
    headrace.cli.serve(None)
except Exception as error:
    assert "server.artifact" in str(error), error
import numpy, threadpoolctl
print({pool["num_threads"] for pool in threadpoolctl.threadpool_info()})
"""
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "{1}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve"], "headrace: server.artifact"),
        (["serve", "--artifact", "nowhere"], "headrace: no artifact at nowhere"),
        (["serve", "--artifact", "x", "--door", "iron"], "headrace: server.door in the command line"),
        (["serve", "--artifact", "x", "--listen", "0.0.0.0:50051"], "not encrypted"),
        (["serve", "--artifact", "x", "--listen", "here"], "expected HOST:PORT"),
        (["serve", "--artifact", "x", "--listen", "127.0.0.1:65536"], "a port up to 65535"),
        (["serve", "--artifact", "x", "--listen", "::1:50051"], "an IPv6 address in brackets"),
        (
            ["reload", "--key-file", "nowhere.key"],
            "--key-file: got 'nowhere.key', expected a file",
        ),
        (["serve", "--config", "nowhere.toml"], "nowhere.toml cannot be read"),
        (["serve", "--nope"], "No such option"),
        (["explain"], "--token, --request-id: got 'neither', expected one of them"),
        (["explain", "--token", "t", "--request-id", "r"], "--token, --request-id: got 'both'"),
        (["explain", "--request-id", "r", "--impression", "-1"], "'--impression'"),
        (["nope"], "No such command"),
    ],
)
def test_bad_input_is_exit_2_and_says_what(
    headrace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = headrace(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_a_door_that_is_not_built_is_exit_2(headrace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "headrace._door", None)
    code, _, err = headrace("serve", "--artifact", "x", "--door", "native")
    assert code == 2
    assert "grpcio serves the same calls" in err


@pytest.mark.parametrize("command", [["health"], ["reload"], ["erase", "--user-id", "u1"]])
def test_no_server_is_exit_1_and_one_line(headrace: Any, command: list[str]) -> None:
    code, _, said = headrace(*command, "--at", "127.0.0.1:1")
    assert code == 1
    assert said.count("\n") == 1
    assert "check --at, and where the server speaks TLS --ca" in said


def test_config_prints_a_file_that_reads_back(headrace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_SERVER_WORKERS", "5")
    code, out, _ = headrace("config")
    assert code == 0
    file = tmp_path / "printed.toml"
    file.write_text(out)
    assert load_config(file, environment={}).server.workers == 5


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:50051", "[::1]:50051", "127.1.2.3:9"])
def test_loopback_needs_no_flag(listen: str) -> None:
    check_listen(load_config(flags={"server": {"listen": listen}}, environment={}))


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "shop.example:1", ":1", "127.0.0.1.evil.example:1"]
)
def test_other_addresses_need_tls_and_keys_or_the_flag(listen: str) -> None:
    tls, keys = {"certificate": "server.pem"}, {"keys": "keys.toml"}
    for half in ({}, {"tls": tls}, {"security": keys}):
        with pytest.raises(ConfigError, match=r"Set tls\.certificate and security\.keys, or say --insecure"):
            check_listen(load_config(flags={"server": {"listen": listen}, **half}, environment={}))
    check_listen(load_config(flags={"server": {"listen": listen}, "tls": tls, "security": keys}, environment={}))
    careless = load_config(flags={"server": {"listen": listen, "insecure": True}}, environment={})
    check_listen(careless)
    assert len(exposures(careless)) == 2


def test_importing_headrace_is_light() -> None:
    heavy = "{'grpc', 'numpy', 'numba', 'typer', 'google.protobuf'}"
    program = f"import sys, headrace, headrace.errors; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_command_line_loads_neither_kernels_nor_grpc_before_it_must() -> None:
    program = "import sys, headrace.cli; sys.exit(bool({'grpc', 'numpy', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
