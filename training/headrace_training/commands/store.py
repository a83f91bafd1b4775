"""`headrace-train list, show, publish, rollback`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from headrace.artifacts import ArtifactStore
from headrace.errors import ArtifactMissingError
from headrace_training.commands.output import put

Store = Annotated[Path, typer.Option(help="Folder of the artifact store.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def list_versions(store: Store, json: Json = False) -> None:
    """List the versions of a store and which one is current."""
    versions, current = _versions(store)
    put({"current": current, "versions": versions, "published": ArtifactStore(store).history()}, json)


def show(
    store: Store,
    version: Annotated[str, typer.Argument(help="A version's name; the current one without it.")] = "",
    json: Json = False,
) -> None:
    """Show what a version says of itself: metrics, parameters, training window."""
    versions, _ = _versions(store)
    if version:
        _check_known(store, version, versions)
    artifact = ArtifactStore(store).open(version or None, verify=False)
    report = msgspec.to_builtins(artifact.manifest)
    if not json:
        del report["checksums"]
    put(report, json)


def publish(
    store: Store,
    version: Annotated[str, typer.Argument(help="A version's name; the newest one without it.")] = "",
    tolerance: Annotated[float, typer.Option(help="Fall of a metric that is allowed, as a share of it.")] = 0.1,
    force: Annotated[bool, typer.Option("--force", help="Publish even if a metric fell further.")] = False,
    json: Json = False,
) -> None:
    """Make a version current, unless its metrics fell too far below the current one's."""
    versions, _ = _versions(store)
    name = version or versions[-1]
    _check_known(store, name, versions)
    before = ArtifactStore(store).publish(name, tolerance=tolerance, force=force)
    put({"current": name, "before": before}, json)


def rollback(store: Store, json: Json = False) -> None:
    """Make the version published before the current one current again."""
    before = ArtifactStore(store).current()
    put({"current": ArtifactStore(store).rollback(), "before": before}, json)


def _versions(store: Path) -> tuple[list[str], str | None]:
    versions = ArtifactStore(store).versions()
    if not versions:
        raise ArtifactMissingError(f"no version in {store}", hint="run headrace-train fit first, or correct --store")
    return versions, ArtifactStore(store).current()


def _check_known(store: Path, version: str, versions: list[str]) -> None:
    if version not in versions:
        raise ArtifactMissingError(f"no version {version!r} in {store}", hint=f"it has {', '.join(versions)}")
