"""All metrics of a process, for everybody or for one tenant."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from prometheus_client import ProcessCollector

import headrace
from headrace.telemetry import calls, shop
from headrace.telemetry.calls import CallCounters
from headrace.telemetry.page import Family, Page
from headrace.telemetry.shop import Parts, write_parts

BUILD = Family("headrace_build_info", "gauge", "1 for the version that runs.", ("version", "python", "door"))
START = Family("headrace_start_timestamp_seconds", "gauge", "When the server began to answer, Unix seconds.")
TRACES_DROPPED = Family(
    "headrace_traces_dropped", "counter", "Sampled calls whose spans found no room or no collector."
)

AT_DOOR = Family(
    "headrace_door_calls", "counter", "Calls as the door saw them, by what became of them.", ("door", "outcome")
)
IN_FLIGHT = Family("headrace_door_in_flight", "gauge", "Calls taken and not answered.", ("door",))
WAITING = Family("headrace_door_waiting", "gauge", "Calls that wait for a worker.", ("door",))
STREAMS = Family("headrace_door_open_streams", "gauge", "Streams that are open.", ("door",))

_NOW = {"in_flight": IN_FLIGHT, "waiting": WAITING, "open_streams": STREAMS}
"""What a door has now; all else that it tells is counted from its start."""

FAMILIES = (*calls.FAMILIES, *shop.FAMILIES, BUILD, START, TRACES_DROPPED, AT_DOOR, *_NOW.values())

FRESH_S = 0.5
"""A page younger than that is given again: how often somebody asks costs the answers nothing."""

DoorStats = Callable[[], Mapping[str, int]]


class Metrics:
    """Renders pages of all metrics, one at a time on a thread of its own.

    tenants : where each tenant's numbers are read from.
    counters : what counts the calls.
    doors : by name, what tells how many calls it took, refused, lost and has.
    n_traces_dropped : spans that were lost.
    max_campaigns : of each tenant that have metrics of their own.
    """

    def __init__(
        self,
        tenants: Mapping[str, Parts],
        counters: CallCounters,
        doors: Mapping[str, DoorStats],
        n_traces_dropped: Callable[[], int] = lambda: 0,
        max_campaigns: int = 200,
    ) -> None:
        self._tenants = dict(tenants)
        self._counters = counters
        self._doors = dict(doors)
        self._n_traces_dropped = n_traces_dropped
        self._max_campaigns = max_campaigns
        self._started = time.time()
        self._process = ProcessCollector(registry=None)
        self._pages: dict[str | None, tuple[float, bytes]] = {}
        # whoever asks, one page is made at a time
        self._thread = ThreadPoolExecutor(1, "headrace-metrics")

    def serves(self, tenant: str) -> bool:
        """Whether there is such a tenant."""
        return tenant in self._tenants

    def render(self, tenant: str | None) -> bytes:
        """The page of one tenant, with nothing of the others or of the process; None: everything. Any thread may call.

        Raises StoreError.
        """
        return self._thread.submit(self._render, tenant).result()

    def close(self) -> None:
        """Finish the page in the making; there are none from now on."""
        self._thread.shutdown()

    def _render(self, tenant: str | None) -> bytes:
        made, body = self._pages.get(tenant, (-FRESH_S, b""))
        if time.monotonic() - made >= FRESH_S:
            body = self._page(tenant).render()
            self._pages[tenant] = (time.monotonic(), body)
        return body

    def _page(self, tenant: str | None) -> Page:
        page = Page()
        self._counters.write(page, None if tenant is None else frozenset({tenant}))
        for name, parts in self._tenants.items():
            if tenant is None or name == tenant:
                write_parts(page, name, parts, self._max_campaigns)
        if tenant is None:
            self._write_process(page)
        return page

    def _write_process(self, page: Page) -> None:
        for name, stats in self._doors.items():
            for what, n in stats().items():
                if what in _NOW:
                    page.add(_NOW[what], (name,), n)
                else:
                    page.add(AT_DOOR, (name, what), n)
        doors = "+".join(self._doors)
        page.add(BUILD, (headrace.__version__, platform.python_version(), doors), 1)
        page.add(START, (), self._started)
        page.add(TRACES_DROPPED, (), self._n_traces_dropped())
        page.add_metrics(self._process.collect())
