from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Artifact(_message.Message):
    __slots__ = ("version", "format_version", "trained_until_ms", "n_users", "n_items", "metrics", "index_type")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    TRAINED_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    N_USERS_FIELD_NUMBER: _ClassVar[int]
    N_ITEMS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    INDEX_TYPE_FIELD_NUMBER: _ClassVar[int]
    version: str
    format_version: int
    trained_until_ms: int
    n_users: int
    n_items: int
    metrics: _containers.ScalarMap[str, float]
    index_type: str
    def __init__(self, version: _Optional[str] = ..., format_version: _Optional[int] = ..., trained_until_ms: _Optional[int] = ..., n_users: _Optional[int] = ..., n_items: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ..., index_type: _Optional[str] = ...) -> None: ...

class GetCurrentArtifactRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCurrentArtifactResponse(_message.Message):
    __slots__ = ("artifact",)
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    artifact: Artifact
    def __init__(self, artifact: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...

class ReloadArtifactRequest(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: str
    def __init__(self, version: _Optional[str] = ...) -> None: ...

class ReloadArtifactResponse(_message.Message):
    __slots__ = ("artifact", "changed")
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    artifact: Artifact
    changed: bool
    def __init__(self, artifact: _Optional[_Union[Artifact, _Mapping]] = ..., changed: _Optional[bool] = ...) -> None: ...
