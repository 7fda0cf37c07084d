"""Reads `--source URL`: a source in one word, in the spelling of the configuration file.

    zookeeper://host:port[,host:port…][/chroot][?option=value&…]
    nacos://host:port[,host:port…][?option=value&…]
    eureka://host:port[,host:port…][/path][?option=value&…]      over http; eurekas:// over https; the path: /eureka
    consul://host:port[,host:port…][/path][?option=value&…]      over http; consuls:// over https
    etcd://host:port[,host:port…][?prefix=PREFIX&format=FORMAT&option=value&…]      over http; etcds:// over https
    file:DIRECTORY[?option=value&…]      also files:DIRECTORY and file:///DIRECTORY

An option is any key of the source whose value is one word, or a list of words with commas. etcd's `prefix` is the one
of `prefixes`, as it stands, and the words of that one are options, too; without `prefix` it is Dubbo's. What comes out
is a plain value as the file would give it; whether it is right is judged together with the file. In a shell, a URL with
`?`, `&` or `*` needs quotes, and so does `${NAME}`, which is read here, not there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from msgspec import Struct, inspect

from isthmus.adapters import options_types
from isthmus.adapters.etcd.options import EtcdPrefix
from isthmus.registry.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPTION = re.compile("[A-Za-z]+=")
# No number of a configuration is longer; Python refuses to read one of more than 4,300 digits.
_WHOLE = re.compile("-?[0-9]{1,20}", re.ASCII)
_KINDS = {"file": "files", "eurekas": "eureka", "consuls": "consul", "etcds": "etcd"}
_FORMS = (
    "zookeeper://HOST:PORT, nacos://HOST:PORT, eureka://HOST:PORT, consul://HOST:PORT, etcd://HOST:PORT "
    "or file:DIRECTORY"
)
_DEFAULT_PATH = {"eureka": "/eureka", "consul": "", "etcd": ""}
_LOGIN = "?username=NAME&password=${NAME}"
_CREDENTIALS = {"nacos": _LOGIN, "eureka": _LOGIN, "consul": "?token=${NAME}", "etcd": _LOGIN}
_TRUTH = {"true": True, "false": False}


def source_from_url(url: str) -> dict[str, object]:
    """Return the plain value of a source.

    Raises ConfigError: it is no source URL, or has a password in it; the text never holds any part of the URL.
    """
    scheme, colon, rest = url.partition(":")
    if not colon:
        raise ConfigError([f"is no source: write {_FORMS}"])
    kind = _KINDS.get(scheme, scheme)
    target, _, query = rest.partition("?")
    match kind:
        case "zookeeper":
            # Whatever is cut off wrongly in front of an `@` could be a password, and end up in a message.
            if "@" in rest.partition("digest=")[0]:
                raise ConfigError(["has credentials: write ?digest=${NAME} and set the variable NAME"])
            located = {"address": _authority(target, scheme).removesuffix("/")}
        case "nacos" | "eureka" | "consul" | "etcd":
            # As above; and a value has no need of the sign itself.
            if "@" in rest:
                raise ConfigError(
                    [f"has credentials: write {_CREDENTIALS[kind]} and set the variable NAME; %40 is an @"]
                )
            authority = _authority(target, scheme)
            address = authority.removesuffix("/") if kind == "nacos" else _service_urls(authority, kind, scheme)
            located = {"address": address}
        case "files":
            located = {"directory": _directory(target)}
        case _:
            # A kind that is not known is found, with the nearest one, where the file's are; the rest has no meaning.
            return {"kind": kind}
    options = _options(query, _option_types(kind))
    return {"kind": kind, **located, **(_with_prefix(options) if kind == "etcd" else options)}


def _authority(target: str, scheme: str) -> str:
    if not target.startswith("//"):
        raise ConfigError([f"write {scheme}://HOST:PORT"])
    return target.removeprefix("//")


def _service_urls(authority: str, kind: str, scheme: str) -> str:
    servers, _, path = authority.partition("/")
    below = f"/{path.rstrip('/')}" if path.rstrip("/") else _DEFAULT_PATH[kind]
    if kind == "etcd" and below:
        raise ConfigError(["has a path: write ?prefix=/dubbo/&format=dubbo"])
    protocol = "http" if scheme == kind else "https"
    return ",".join(f"{protocol}://{server}{below}" for server in servers.split(","))


def _with_prefix(options: dict[str, object]) -> dict[str, object]:
    """Put the options of the one prefix of an etcd source where the file has them."""
    own = {key: options.pop(key) for key in _types_of(EtcdPrefix) if key in options}
    if "prefix" in options:
        prefix = options.pop("prefix")
        return {**options, "prefixes": {prefix: own}}
    if own:
        raise ConfigError(["says something of a prefix, but not which one: write ?prefix=/dubbo/&format=dubbo"])
    return options


def _directory(target: str) -> str:
    if not target.startswith("//"):
        return target
    if not target.startswith("///"):
        raise ConfigError(["names another machine: write file:DIRECTORY or file:///DIRECTORY"])
    return unquote(target.removeprefix("//"))


def _options(query: str, types: Mapping[str, inspect.Type]) -> dict[str, object]:
    said: dict[str, object] = {}
    if not all(_OPTION.match(option) for option in query.split("&") if option):
        raise ConfigError(["has an option that is not KEY=VALUE; write & in a value as %26"])
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key in said or key in ("kind", "address", "directory"):
            raise ConfigError(["says the same thing twice"])
        said[key] = _option(text, types.get(key))
    return said


def _option(text: str, wanted: inspect.Type | None) -> object:
    """Return a word as the file would give it; one that does not fit stays text, which the types then refuse."""
    match wanted:
        case inspect.BoolType():
            return _TRUTH.get(text, text)
        case inspect.IntType():
            return int(text) if _WHOLE.fullmatch(text) else text
        case inspect.FloatType():
            return _number(text)
        case inspect.VarTupleType():
            return text.split(",")
        case _:
            return text


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _option_types(kind: str) -> dict[str, inspect.Type]:
    """Return the type of each key of a kind of source, and of what else its URL can say."""
    of_kind = next(options for options in options_types() if options.__struct_config__.tag == kind)
    return {**_types_of(EtcdPrefix), **_types_of(of_kind)} if kind == "etcd" else _types_of(of_kind)


def _types_of(struct: type[Struct]) -> dict[str, inspect.Type]:
    info = inspect.type_info(struct)
    return {field.encode_name: field.type for field in info.fields} if isinstance(info, inspect.StructType) else {}
