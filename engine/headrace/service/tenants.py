"""The tenants of one process: an assembly for each, which share threads and the port and nothing else."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Self

from headrace.config import Config, each_tenant
from headrace.errors import HeadraceError
from headrace.operations.live import LiveSettings
from headrace.service.assembly import Assembly
from headrace.service.method import Method
from headrace.telemetry.shop import Parts

_log = logging.getLogger("headrace")


class Tenants:
    """Every tenant's parts, ready to answer once built.

    assemblies : by name of the tenant; under the empty name where there is just one.

    Raises what :class:`Assembly` raises; those built by then are closed.
    """

    def __init__(self, config: Config) -> None:
        self.assemblies: dict[str, Assembly] = {}
        with contextlib.ExitStack() as undo:
            for name, its in each_tenant(config).items():
                self.assemblies[name] = undo.enter_context(contextlib.closing(Assembly(its)))
            self._closing = undo.pop_all()

    def methods(self) -> dict[str, list[Method]]:
        """What each tenant is offered; all of them the same methods."""
        return {name: assembly.methods() for name, assembly in self.assemblies.items()}

    def parts(self) -> dict[str, Parts]:
        """What each tenant's metrics are read from."""
        return {name: assembly.parts() for name, assembly in self.assemblies.items()}

    def http_methods(self, public_url: str) -> dict[str, list[Method]]:
        """What each tenant is offered over HTTP at that URL."""
        return {
            name: assembly.http_methods(f"{public_url}/openrtb2/{name}".rstrip("/"))
            for name, assembly in self.assemblies.items()
        }

    def versions(self) -> str:
        """The artifacts that answer, for a line of the log."""
        if "" in self.assemblies:
            return f"artifact {self.assemblies[''].served.current.version}"
        served = [f"{assembly.served.current.version} to {name}" for name, assembly in self.assemblies.items()]
        return f"artifacts {', '.join(served)}"

    def reload(self) -> None:
        """Let each tenant swap to its store's current artifact; what fails leaves the old one and is logged."""
        for name, assembly in self.assemblies.items():
            served, whose = assembly.served, f" of tenant {name}" if name else ""
            try:
                changed = served.reload()
            except HeadraceError as error:
                _log.error("the old artifact %s%s stays: %s", served.current.version, whose, error)
                continue
            _log.info(
                "%s artifact %s%s", "now serving" if changed else "already serving", served.current.version, whose
            )

    def follow_settings(self, live: LiveSettings) -> None:
        """Let each tenant take over changed settings from now on."""
        for assembly in self.assemblies.values():
            assembly.follow_settings(live)

    @contextlib.contextmanager
    def following(self, set_serving: Callable[[str, bool], None]) -> Iterator[None]:
        """Within: every tenant owns its ledger as soon as that is free, and follows what other processes change.

        set_serving : hears whether this process bids: for all tenants, or it says no.
        """
        bids = dict.fromkeys(self.assemblies, False)
        lock = threading.Lock()

        def of(tenant: str) -> Callable[[str, bool], None]:
            def hear(service: str, serving: bool) -> None:
                with lock:
                    bids[tenant] = serving
                    set_serving(service, all(bids.values()))

            return hear

        with contextlib.ExitStack() as stack:
            for name, assembly in self.assemblies.items():
                stack.enter_context(assembly.following(of(name)))
            yield

    def close(self) -> None:
        """Close each tenant's parts; safe to call twice."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
