"""JSON records of any making, whose fields the operator names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from isthmus.adapters.etcd.formats.base import authority_of, mapping, named, number, port_number
from isthmus.adapters.etcd.formats.instances import Instance, Said
from isthmus.adapters.instances import bare_address, decode
from isthmus.registry import codes
from isthmus.registry.errors import RecordError

if TYPE_CHECKING:
    from isthmus.adapters.etcd.formats.instances import Reader
    from isthmus.adapters.etcd.options import EtcdFields

_Path = tuple[str, ...]
_ANYTHING = msgspec.json.Decoder()
_INDEX_DIGITS = 6
_FALSE = frozenset({"false", "0", "no", "off"})
_URL_PORTS = {"http": 80, "https": 443}
_OFF = (codes.DISABLED, "the record says that the instance is not enabled")
# As istiod takes them, and nothing that needs escaping.
_LOCALITY = re.compile(r"[A-Za-z0-9][-A-Za-z0-9._]{0,62}(?:/[A-Za-z0-9][-A-Za-z0-9._]{0,62}){0,2}", re.ASCII)


def reader(fields: EtcdFields) -> Reader:
    """Return the reader of records with these fields.

    Where a field holds the service's name, whoever may write below the prefix can claim any name: the operator has
    chosen that (T01).
    """
    service, address, port, weight, enabled, locality, metadata = (
        _path(field)
        for field in (
            fields.service,
            fields.address,
            fields.port,
            fields.weight,
            fields.enabled,
            fields.locality,
            fields.metadata,
        )
    )

    def read(path: str, value: bytes) -> tuple[Said, ...]:
        said = decode(_ANYTHING, value, "the value")
        name = _text(_found(said, service), fields.service) if service else named(path)
        heavy = number(_found(said, weight))
        instance = Instance(
            *_place(_text(_found(said, address), fields.address), _found(said, port)),
            1.0 if heavy is None else heavy,
            mapping(_found(said, metadata)),
            _locality(_found(said, locality)),
            _OFF if _is_off(_found(said, enabled)) else None,
        )
        return (Said(name, (instance,)),)

    return read


def _path(field: str) -> _Path:
    return tuple(field.split(".")) if field else ()


def _found(said: Any, path: _Path) -> Any:
    """Return what stands at a path in a record; None where nothing does, and for the path of no field."""
    if not path:
        return None
    for part in path:
        if isinstance(said, dict):
            said = said.get(part)
        elif isinstance(said, list) and part.isascii() and part.isdigit() and len(part) <= _INDEX_DIGITS:
            said = said[int(part)] if int(part) < len(said) else None
        else:
            return None
    return said


def _text(said: object, field: str) -> str:
    if isinstance(said, str) and said:
        return said
    raise RecordError(codes.GARBLED, f"the value has no text at `{field}`")


def _place(text: str, port: object) -> tuple[str, int | None]:
    """Return an address and its port, None where that is in the address: what the port's field says goes before it."""
    scheme, mark, _ = text.partition("://")
    authority = authority_of(text)
    if port is None or port == "":
        usual = _URL_PORTS.get(scheme.lower()) if mark and _is_bare(authority) else None
        if usual is None and authority and _is_bare(authority):
            raise RecordError(codes.BAD_PORT, "there is an address and no port: `fields` can say where that is")
        return (bare_address(authority), usual) if usual else (text, None)
    host = authority if _is_bare(authority) else authority.rpartition(":")[0]
    return bare_address(host), _port(port)


def _is_bare(authority: str) -> bool:
    """Tell whether there is no port in `host`, `host:port`, `[v6]`, `[v6]:port`, or IPv6 without brackets."""
    return authority.endswith("]") or (not authority.startswith("[") and authority.count(":") != 1)


def _port(said: object) -> int:
    """Return a port that is said; 0, which none is, for what is no whole number. Raises RecordError: a text is none."""
    if isinstance(said, str):
        return port_number(said.strip())
    found = number(said)
    return int(found) if found is not None and found.is_integer() else 0


def _is_off(said: object) -> bool:
    if isinstance(said, str):
        return said.strip().lower() in _FALSE
    return said is not None and (said is False or said == 0)


def _locality(said: object) -> str:
    return said if isinstance(said, str) and _LOCALITY.fullmatch(said) else ""
