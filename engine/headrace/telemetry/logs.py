"""Logs of the whole process: JSON lines for machines, aligned words for people."""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, TextIO

import structlog

from headrace.errors import HeadraceError
from headrace.front import Call, Reply
from headrace.telemetry.calls import STATUS_NAMES, reason_of
from headrace.telemetry.traceparent import trace_id_of

_log = logging.getLogger("headrace.access")


def configure_logs(
    log_format: Literal["auto", "json", "text"], level: str, stream: TextIO | None = None
) -> logging.Handler:
    """Send what any library logs to one stream; returns the handler, which replaces the root logger's others.

    log_format : "auto" is text on a terminal and JSON elsewhere.
    level : name of the lowest level that is logged.
    stream : stderr when left out.
    """
    out = stream or sys.stderr
    human = log_format == "text" or (log_format == "auto" and out.isatty())
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(human, out.isatty())],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)
    # it reports each instruction set that it does not find
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)
    return handler


def set_level(level: str) -> None:
    """Log what is at least so severe."""
    logging.getLogger().setLevel(level.upper())


def _renderers(human: bool, colors: bool) -> list[Any]:
    if human:
        # a traceback with local variables would show what people asked for
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain, pad_event_to=0)]
    return [
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(json.dumps, ensure_ascii=False),
    ]


class AccessLog:
    """An Observer that logs a share of all calls, without any of their content.

    rate : the share, 0 to 1. chance : uniform numbers of [0, 1).
    """

    def __init__(self, rate: float, chance: Callable[[], float] = random.random) -> None:
        self._rate = rate
        self._chance = chance

    def refused(self, call: Call, tenant: str, error: HeadraceError) -> None:
        """Perhaps a line for a refusal."""
        if self._chance() < self._rate:
            _log.info("refused", extra=_of(call, tenant) | {"reason": reason_of(error)})

    def answered(
        self, method: str, tenant: str, calls: Sequence[Call], replies: Sequence[Reply], started: float, ended: float
    ) -> None:
        """Perhaps a line for each call."""
        for call, reply in zip(calls, replies, strict=True):
            if self._chance() < self._rate:
                times = {"waited_s": round(started - call.arrived, 6), "worked_s": round(ended - started, 6)}
                extra = {"status": STATUS_NAMES[reply.status], "batch_calls": len(calls)} | times
                _log.info("answered", extra=_of(call, tenant) | extra)


def _of(call: Call, tenant: str) -> dict[str, str]:
    return {"method": call.method, "tenant": tenant, "peer": call.peer, "trace_id": trace_id_of(call)}
