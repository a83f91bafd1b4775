"""Builds the extensions ``_native`` and ``_door`` from ``native/`` with nanobind; all else is in pyproject.toml."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOTS = {"headrace": "engine", "headrace_training": "training"}


class BuildNative(build_ext):
    """Finds nanobind, which is known only where the build's own packages are installed."""

    def build_extensions(self) -> None:
        import nanobind

        nanobind_dir = Path(nanobind.__file__).parent
        folders = ("include", "src", "ext/robin_map/include")
        for extension in self.extensions:
            extension.include_dirs += [str(nanobind_dir / folder) for folder in folders]
        super().build_extensions()


def extension(name: str, sources: Iterable[Path], cflags: Iterable[str] = (), libs: Iterable[str] = ()) -> Extension:
    return Extension(
        f"headrace.{name}",
        sources=sorted(str(path) for path in sources),
        depends=sorted(str(path) for folder in ("include", "src") for path in Path("native", folder).rglob("*.hpp")),
        include_dirs=["native/include"],
        extra_compile_args=[
            *("-std=c++17", "-O3", "-fvisibility=hidden", "-fno-strict-aliasing", "-DNDEBUG"),
            *cflags,
        ],
        extra_link_args=["-Wl,--exclude-libs,ALL", *libs],
        language="c++",
    )


def pkg_config(*flags: str) -> list[str] | None:
    """Flags for gRPC's core and zlib; None where they are not installed for building."""
    try:
        said = subprocess.run(["pkg-config", *flags, "grpc", "zlib"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return said.stdout.split()


def extensions() -> list[Extension]:
    # without a compiler training still works; `headrace serve` says what is missing
    if os.environ.get("HEADRACE_NO_NATIVE"):
        return []
    sources = set(Path("native/src").glob("*.cpp"))
    door = set(Path("native/src").glob("door*.cpp"))
    found = [extension("_native", sources - door)]
    cflags, libs = pkg_config("--cflags"), pkg_config("--libs")
    if os.environ.get("HEADRACE_NO_DOOR") or cflags is None or libs is None:
        print("headrace is built without its native door: the grpcio door serves the same calls", file=sys.stderr)
        return found
    # the ledger works where gRPC's library is absent, so the door is an extension of its own
    nanobind = Path("native/src/nanobind.cpp")
    return [*found, extension("_door", door | {nanobind}, cflags, ["-Wl,--as-needed", *libs])]


setup(
    packages=[name for root in ROOTS.values() for name in find_packages(root)],
    package_dir={name: f"{root}/{name}" for name, root in ROOTS.items()},
    package_data={
        "headrace": ["py.typed", "*.pyi", "v1/*.pyi", "simulate/scenarios/*.toml"],
        "headrace_training": ["py.typed"],
    },
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildNative},
)
