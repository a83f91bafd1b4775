"""Builds the extension ``headrace._native`` from ``native/`` with nanobind; all else is in pyproject.toml."""

import os
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


native = Extension(
    "headrace._native",
    sources=sorted(str(path) for path in Path("native/src").glob("*.cpp")),
    depends=sorted(str(path) for path in Path("native/include").rglob("*.hpp")),
    include_dirs=["native/include"],
    extra_compile_args=["-std=c++17", "-O3", "-fvisibility=hidden", "-fno-strict-aliasing", "-DNDEBUG"],
    language="c++",
)

setup(
    packages=[name for root in ROOTS.values() for name in find_packages(root)],
    package_dir={name: f"{root}/{name}" for name, root in ROOTS.items()},
    package_data={"headrace": ["py.typed", "*.pyi", "v1/*.pyi"], "headrace_training": ["py.typed"]},
    # without a compiler training still works; `headrace serve` says what is missing
    ext_modules=[] if os.environ.get("HEADRACE_NO_NATIVE") else [native],
    cmdclass={"build_ext": BuildNative},
)
