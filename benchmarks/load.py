"""What the service benchmarks share: compiled tools, a load from one core, servers with CPU and memory accounts."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"

SERVER_CORE, LOAD_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
ALL_CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))


def build(name: str, *packages: str) -> Path:
    """Compile benchmarks/native/NAME.cpp against libraries that pkg-config knows; returns the program's path."""
    source, program = HERE / "native" / f"{name}.cpp", BUILD / name
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        wanted = ["pkg-config", "--cflags", "--libs", *packages]
        flags = subprocess.run(wanted, capture_output=True, text=True, check=False)
        if flags.returncode:
            raise SystemExit(
                f"{name}.cpp needs {', '.join(packages)}: .ci/system-packages bench installs what is missing"
            )
        compiler = os.environ.get("CXX", "g++").split()
        # under a name of its own first: another thread may be about to run it
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            made = Path(folder, name)
            subprocess.run(
                [*compiler, "-std=c++17", "-O2", str(source), "-o", str(made), *flags.stdout.split()], check=True
            )
            made.replace(program)
    return program


def load(
    address: str, path: str, bodies: Iterable[bytes], *, headers: Sequence[str] = (), **options: float | str
) -> dict[str, Any]:
    """Ask a server on the load's core; options as load.cpp takes them, with underscores; returns what it prints."""
    program = build("load", "libnghttp2")
    host, _, port = address.rpartition(":")
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(struct.pack("<I", len(body)) + body for body in bodies))
        file.flush()
        command = [str(program), "--host", host, "--port", port, "--path", path, "--bodies", file.name]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        for header in headers:
            command += ["--header", header]
        done = subprocess.run(["taskset", "-c", str(LOAD_CORE), *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    result: dict[str, Any] = json.loads(done.stdout)
    return result


class Process:
    """A server on the server's core; its first line of output ends with the address that it serves on.

    cores : others for it, as ``taskset -c`` takes them.

    Attribute ``started_s`` is the time from its start to that line.
    """

    def __init__(
        self, command: Sequence[str], stderr: IO[str] | None = None, cores: str = str(SERVER_CORE), **environment: str
    ) -> None:
        began = time.monotonic()
        self.process = subprocess.Popen(
            ["taskset", "-c", cores, *command],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{command[0]} did not start")
        self.started_s = time.monotonic() - began
        self.address = line.split()[-1]

    @classmethod
    def python(
        cls, *arguments: str, stderr: IO[str] | None = None, cores: str = str(SERVER_CORE), **environment: str
    ) -> Process:
        """A Python program of this environment."""
        return cls([sys.executable, *arguments], stderr, cores, **environment)

    def cpu_s(self) -> float:
        """Seconds of CPU that all threads have used, ended ones too, by the kernel's scheduler (10 ms steps)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def n_threads(self) -> int:
        """Threads that it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def n_files(self) -> int:
        """Files and sockets that it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self) -> int:
        """End it; returns the exit code."""
        self.process.terminate()
        return self.process.wait(60)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
