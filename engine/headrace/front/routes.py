"""Which HTTP requests are taken: verb and path to the name of a method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

QUERY = ":query"
"""Key of a call's metadata, which no header can have, for what stands behind the ``?``."""


@dataclass(frozen=True, slots=True)
class Route:
    """One verb at one path.

    path : ``{tenant}`` may stand for its second segment; the call's metadata then names that tenant.
    method : name of the method that answers; several routes may lead to one.
    content_type : what a body must be; empty: no body is read, the call's body is the query string.
    timeout_s : for the answer, from the request's arrival.
    time_left : reads from a body the seconds that its sender leaves for the answer; None where it does not say.
    """

    verb: str
    path: str
    method: str
    content_type: str = ""
    timeout_s: float = 10.0
    time_left: Callable[[bytes], float | None] | None = None


class Routes:
    """An open table of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._at: dict[str, dict[str, Route]] = {}
        for route in routes:
            self._at.setdefault(route.path, {})[route.verb] = route

    def find(self, path: str) -> tuple[dict[str, Route], str]:
        """The routes at a path by verb, none where nothing is there, and the tenant that the path names."""
        routes = self._at.get(path)
        if routes is not None:
            return routes, ""
        first, _, rest = path[1:].partition("/")
        tenant, _, rest = rest.partition("/")
        return self._at.get(f"/{first}/{{tenant}}/{rest}", {}) if tenant else {}, tenant
