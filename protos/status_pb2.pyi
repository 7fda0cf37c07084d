import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from isthmus.protos import xds_pb2 as _xds_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ConfigStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[ConfigStatus]
    SYNCED: _ClassVar[ConfigStatus]
    NOT_SENT: _ClassVar[ConfigStatus]
    STALE: _ClassVar[ConfigStatus]
    ERROR: _ClassVar[ConfigStatus]
UNKNOWN: ConfigStatus
SYNCED: ConfigStatus
NOT_SENT: ConfigStatus
STALE: ConfigStatus
ERROR: ConfigStatus

class ClientConfig(_message.Message):
    __slots__ = ("node", "generic_xds_configs")
    NODE_FIELD_NUMBER: _ClassVar[int]
    GENERIC_XDS_CONFIGS_FIELD_NUMBER: _ClassVar[int]
    node: _xds_pb2.Node
    generic_xds_configs: _containers.RepeatedCompositeFieldContainer[GenericXdsConfig]
    def __init__(self, node: _Optional[_Union[_xds_pb2.Node, _Mapping]] = ..., generic_xds_configs: _Optional[_Iterable[_Union[GenericXdsConfig, _Mapping]]] = ...) -> None: ...

class GenericXdsConfig(_message.Message):
    __slots__ = ("type_url", "last_updated", "config_status", "error_state")
    TYPE_URL_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATED_FIELD_NUMBER: _ClassVar[int]
    CONFIG_STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_STATE_FIELD_NUMBER: _ClassVar[int]
    type_url: str
    last_updated: _timestamp_pb2.Timestamp
    config_status: ConfigStatus
    error_state: UpdateFailureState
    def __init__(self, type_url: _Optional[str] = ..., last_updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., config_status: _Optional[_Union[ConfigStatus, str]] = ..., error_state: _Optional[_Union[UpdateFailureState, _Mapping]] = ...) -> None: ...

class UpdateFailureState(_message.Message):
    __slots__ = ("last_update_attempt", "details")
    LAST_UPDATE_ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    last_update_attempt: _timestamp_pb2.Timestamp
    details: str
    def __init__(self, last_update_attempt: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., details: _Optional[str] = ...) -> None: ...
