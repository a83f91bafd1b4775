"""The door over gRPC's C++ library: calls are taken, queued and answered without Python, and handed over in batches."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable, Sequence
from typing import Any, cast

from headrace import _door
from headrace.errors import ConfigError
from headrace.front import Call, Reply
from headrace.front.certificates import read_certificates
from headrace.front.health import CHECK, REFLECT, WATCH, Aside
from headrace.front.options import transport_options
from headrace.front.settings import DoorConfig, TlsConfig


class NativeDoor:
    """Takes calls as bytes; serves gRPC health and reflection beside them, on a thread of its own.

    A call that is cancelled or past its deadline while it waits leaves the queue and costs no worker anything.
    """

    def __init__(
        self,
        methods: Iterable[str],
        listen: str,
        config: DoorConfig,
        streams: Collection[str] = (),
        tls: TlsConfig | None = None,
    ) -> None:
        methods, tls = list(methods), tls or TlsConfig()
        self._listen = listen
        names = {
            "methods": methods,
            "streams": list(streams),
            "aside_methods": [CHECK],
            "aside_streams": [WATCH, REFLECT] if config.reflection else [WATCH],
        }
        limits = {
            "max_message_bytes": config.max_message_bytes,
            "max_in_flight": config.max_in_flight,
            "max_stream_messages": config.max_stream_messages,
            "compress_above_bytes": config.compress_above_bytes,
            "max_buffer_bytes": config.max_buffer_bytes,
            "pollers": max(1, len(os.sched_getaffinity(0)) // 2),
        }
        read_certificates(tls)  # the door reads them itself, whenever they change
        files = (tls.certificate, tls.key, tls.client_ca, tls.require_client_certificate)
        self._core = _door.Door(listen, names, limits, transport_options(config), *files)
        self._aside = Aside({name.split("/")[1] for name in (*methods, *streams)}, self._core)
        self._thread = threading.Thread(target=self._answer_aside, name="headrace-health", daemon=True)

    def start(self) -> str:
        """Bind and accept calls; returns the address bound. Raises ConfigError when the address cannot be had."""
        port = self._core.listen()
        if port == 0:
            expected = "an address that this machine has and no other program uses"
            raise ConfigError("server.listen", self._listen, expected)
        self._thread.start()
        return f"{self._listen.rpartition(':')[0]}:{port}"

    def next_batch(self, limit: int) -> list[Call]:
        """Wait for calls and take at most ``limit`` of those that wait; an empty list once the door is closed."""
        # the compiled calls have the attributes of Call
        return cast(list[Call], self._core.next_batch(limit))

    def reply(self, calls: Sequence[Call], replies: Sequence[Reply]) -> list[int]:
        """Answer calls, one reply each, from any thread; returns the positions of those whose caller has gone."""
        return self._core.reply(cast(Any, calls), replies)

    def set_room(self, calls: int) -> None:
        """Calls that may wait for a worker from now on; one more is refused at once with UNAVAILABLE."""
        self._core.set_room(calls)

    def take_lost(self) -> list[tuple[str, bytes]]:
        """See `Losing`."""
        return self._core.take_lost()

    def stats(self) -> dict[str, int]:
        """What happened to calls since the start, and how many there are now."""
        return self._core.stats()

    def set_serving(self, service: str, serving: bool) -> None:
        """Tell gRPC health what to answer for a service; the empty name is the whole server."""
        self._aside.set_serving(service, serving)

    def drain(self, grace_s: float) -> None:
        """Refuse new calls, let those in flight finish for at most ``grace_s`` seconds, close."""
        self._aside.close()
        self._core.drain(grace_s)
        if self._thread.is_alive():
            self._thread.join()

    def _answer_aside(self) -> None:
        while batch := self._core.next_aside(16):
            for call in batch:
                self._aside.take(call)
