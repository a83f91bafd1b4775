"""The machine under a server: clock, limits, memory, processor, libraries."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import resource
import time
import zoneinfo
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from headrace.bidding.strategies.strategy import load_strategy
from headrace.errors import StrategyError
from headrace.operations.finding import Finding, fail, ok, warn

DRIFT_S = 0.005
UNSYNCHRONIZED = 5
"""What adjtimex(2) answers while no source of time disciplines the clock."""

FEW_FILES = 4096
OVERHEAD_BYTES = 400 << 20
"""What a process takes beside its artifact."""

PROCESSORS = Path("/proc/cpuinfo")
MEMORY = Path("/proc/meminfo")
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")


def clock(
    newest_ms: int,
    wall: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Finding]:
    """The clock's rate over a tenth of a second, and its time against the newest that is recorded (0: nothing is)."""
    wall_0, mono_0 = wall(), monotonic()
    wait(0.1)
    drift = (wall() - wall_0) - (monotonic() - mono_0)
    if abs(drift) > DRIFT_S:
        found = f"the time jumped by {drift * 1000:.0f} ms within a tenth of a second"
        yield warn("clock", found, "let NTP slew the clock, not step it: jumps expire reservations early")
    ahead_s = newest_ms / 1000 - wall()
    if ahead_s > 300:
        found = f"the machine's time is {ahead_s / 3600:.1f} h before the newest event or artifact"
        yield fail("clock", found, "set the machine's clock; budget days and notices depend on it")
    else:
        yield ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall())))


def synchronization(state: Callable[[], int] | None = None) -> Finding:
    """Whether something keeps the clock right; ``state`` is what adjtimex(2) answers."""
    answer = (state or _adjtimex)()
    if answer == UNSYNCHRONIZED:
        return warn("time source", "no source of time disciplines the clock", "run chrony or systemd-timesyncd")
    return ok("time source", "synchronized" if answer >= 0 else "not known here")


def time_zones(find: Callable[[str], object] = zoneinfo.ZoneInfo) -> Finding:
    """Whether the days of budgets can be known."""
    try:
        find("America/New_York")
    except (zoneinfo.ZoneInfoNotFoundError, OSError):
        return fail("time zones", "no time zone data", "install tzdata (the system's or the Python package)")
    return ok("time zones", "present")


def open_files(soft: int | None = None) -> Finding:
    """Whether there are file descriptors for many connections."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if soft is None else soft
    if 0 <= limit < FEW_FILES:
        advice = "ulimit -n 65536, or LimitNOFILE= in the service's unit: each connection is a file"
        return warn("open files", f"at most {limit}", advice)
    return ok("open files", "no limit" if limit < 0 else f"at most {limit}")


def memory(artifact_bytes: int, available: int | None = None) -> Finding:
    """Whether an artifact and the one that it is swapped for fit."""
    free, needed = _available_bytes() if available is None else available, OVERHEAD_BYTES + artifact_bytes * 3 // 2
    found = f"{free / 1e9:.1f} GB available, about {needed / 1e9:.1f} GB needed"
    if free < needed:
        return warn("memory", found, "serve a smaller artifact or give the machine more memory")
    return ok("memory", found)


def processor(cpuinfo: Path = PROCESSORS) -> Finding:
    """Whether the vector instructions that the fast paths use are there."""
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    cores = len(os.sched_getaffinity(0))
    if "avx2" not in words and "asimd" not in words:
        return warn("processor", f"{cores} cores, no AVX2", "answers are the same and take several times as long")
    best = next((name for name in ("avx512f", "avx2", "asimd") if name in words), "")
    return ok("processor", f"{cores} cores, {best}")


def libraries(distribution: str = "headrace") -> Iterator[Finding]:
    """Whether what is installed lies in the ranges that this version was made for."""
    try:
        required = [Requirement(line) for line in importlib.metadata.requires(distribution) or []]
    except importlib.metadata.PackageNotFoundError:
        yield warn("libraries", f"{distribution} is not installed", "pip install it, so that its needs are known")
        return
    wrong = [line for line in map(_off, required) if line]
    for found in wrong:
        yield fail("libraries", found, f"pip install --upgrade {distribution}")
    if not wrong:
        yield ok("libraries", "as required")


def _off(requirement: Requirement) -> str:
    if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
        return ""
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    return "" if requirement.specifier.contains(version, prereleases=True) else f"{requirement} wanted, {version} found"


def compiled(built: Callable[[str], object] = find_spec) -> Iterator[Finding]:
    """Whether the compiled core and door are there."""
    if not built("headrace._native"):
        advice = "install g++ and python3-dev, then install headrace again; nothing can be served without it"
        yield fail("compiled core", "headrace._native is not built", advice)
    else:
        yield ok("compiled core", "built")
    if not built("headrace._door"):
        advice = (
            "install libgrpc++-dev and pkg-config, then install headrace again; grpcio serves the same calls meanwhile"
        )
        yield warn("native door", "not built", advice)
    else:
        yield ok("native door", "built")


def kernels(folder: str, n_compiled: int) -> Finding:
    """Whether compiled kernels are kept, and are there. folder : where; empty: nowhere that outlives a process."""
    if not folder:
        advice = "point NUMBA_CACHE_DIR at a folder of the service user's own"
        return warn("kernels", "compiled anew at every start, about 30 s", advice)
    if not n_compiled:
        return warn("kernels", f"none compiled in {folder} yet", "headrace warm compiles them, as the first start does")
    return ok("kernels", f"{n_compiled} compiled in {folder}")


def strategies(specs: Sequence[str]) -> Iterator[Finding]:
    """Whether each user-written strategy compiles, and what a call of it costs."""
    for spec in specs:
        try:
            yield ok("strategy", str(load_strategy(spec)))
        except StrategyError as error:
            yield fail("strategy", str(error), "docs/strategies.md has all that a strategy may say")


def _adjtimex() -> int:
    # struct timex is 208 bytes on 64-bit Linux; all zero: only read
    return int(ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(256)))


def _available_bytes() -> int:
    lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    if CONTAINER_MEMORY.exists() and (limit := CONTAINER_MEMORY.read_text().strip()).isdecimal():
        return min(free, int(limit))
    return free
