"""OperationsService: the running process itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.message import Message

from headrace.errors import HeadraceError
from headrace.front import Call
from headrace.operations.live import Reloaded
from headrace.service.method import Method
from headrace.v1 import operations_pb2 as pb


def methods(reload: Callable[[], Reloaded]) -> list[Method]:
    """The RPCs of OperationsService.

    reload : reads the configuration anew, see :meth:`LiveSettings.reload`.
    """

    def reload_config(requests: Sequence[Any], calls: Sequence[Call]) -> list[Message | HeadraceError]:
        return [_reload(reload)] * len(requests)

    return [Method("/headrace.v1.OperationsService/ReloadConfig", pb.ReloadConfigRequest, reload_config)]


def _reload(reload: Callable[[], Reloaded]) -> Message | HeadraceError:
    try:
        reloaded = reload()
    except HeadraceError as error:
        return error
    return pb.ReloadConfigResponse(changed_keys=reloaded.changed, waiting_keys=reloaded.waiting)
