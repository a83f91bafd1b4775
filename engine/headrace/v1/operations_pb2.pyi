from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ReloadConfigRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReloadConfigResponse(_message.Message):
    __slots__ = ("changed_keys", "waiting_keys")
    CHANGED_KEYS_FIELD_NUMBER: _ClassVar[int]
    WAITING_KEYS_FIELD_NUMBER: _ClassVar[int]
    changed_keys: _containers.RepeatedScalarFieldContainer[str]
    waiting_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, changed_keys: _Optional[_Iterable[str]] = ..., waiting_keys: _Optional[_Iterable[str]] = ...) -> None: ...
