"""A directory of YAML services: the embedded default, and the source for what no registry holds.

Every `*.yaml`, `*.yml` and `*.json` in the directory is one document with a list `services`. The directory is read
again whenever something in it changes. A file that cannot be read, or is suddenly empty, keeps what it said before
(G1); one that is gone takes its services with it; a directory that is gone is a source out of contact.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import msgspec
from msgspec import Struct
from watchfiles import awatch

from isthmus.adapters.base import SourceOptions
from isthmus.adapters.yamldoc import MAX_BYTES, read_documents
from isthmus.registry import codes
from isthmus.registry.errors import ConfigError, RecordError, SourceUnavailable
from isthmus.registry.model import Endpoint, Port, Refusal, Service, WorkloadEntry, pairs
from isthmus.registry.names import printable

if TYPE_CHECKING:
    from isthmus.adapters.base import Sink

_log = logging.getLogger("isthmus.files")

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_LONGEST_REASON = 300
_WATCH_STEP_MS = 20
_WATCH_DEBOUNCE_MS = 200


class FilesOptions(SourceOptions, frozen=True, kw_only=True, tag_field="kind", tag="files"):
    """Services written by hand.

    directory: where the files are.
    reconcile: seconds between reads that back the file watch (G6).
    """

    directory: str
    reconcile: float = 15.0
    # A directory comes back as its owner left it: there is nothing to wait for.
    settle: float = 0.0


class FilePort(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A port as a file says it."""

    number: int
    name: str
    protocol: str = "TCP"
    target_port: int = 0


class FileEndpoint(Struct, frozen=True, forbid_unknown_fields=True):
    """An endpoint as a file says it; `ports` maps port names to numbers at this address."""

    address: str
    ports: dict[str, int] = {}
    labels: dict[str, str] = {}
    weight: int = 0
    locality: str = ""
    network: str = ""


# A revision becomes the value of a label that decides who sees the service at all.
_Revision: TypeAlias = Annotated[str, msgspec.Meta(pattern="^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


class FileService(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A service as a file says it; `namespace` is the source's unless given."""

    host: str
    ports: tuple[FilePort, ...]
    endpoints: tuple[FileEndpoint, ...] = ()
    namespace: str = ""
    export_to: tuple[str, ...] = ()
    revisions: tuple[_Revision, ...] = ()


class FileContent(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file."""

    services: tuple[FileService, ...] = ()


class Reading(Struct):
    """What one file said last, and why its newest form cannot be read, if so."""

    services: tuple[Service, ...] = ()
    fault: Refusal | None = None


class FilesAdapter:
    """Reports the services of one directory."""

    def __init__(self, options: FilesOptions) -> None:
        self._options = options
        self._directory = Path(options.directory)
        self._readings: dict[str, Reading] = {}
        self._contents: dict[str, str] = {}
        self._refused: dict[str, tuple[Refusal, ...]] = {}

    async def run(self, sink: Sink) -> None:
        """Watch until cancelled. Raises SourceUnavailable: the directory is not there, or is not the same any more."""
        generation = sink.connected()
        directory = await self._read(sink, generation)
        try:
            # No filter: where the files are links, as in a Kubernetes volume, it is another name that changes.
            async for changes in awatch(
                self._directory,
                watch_filter=None,
                step=_WATCH_STEP_MS,
                debounce=_WATCH_DEBOUNCE_MS,
                rust_timeout=int(self._options.reconcile * 1000),
                yield_on_timeout=True,
                recursive=False,
            ):
                before = self._contents
                if await self._read(sink, generation) != directory:
                    raise SourceUnavailable(f"{self._directory} was replaced, and is read anew")
                if not changes and before != self._contents:
                    sink.mended(1)
        except FileNotFoundError as error:
            raise SourceUnavailable(f"{self._directory} is not there") from error

    async def _read(self, sink: Sink, generation: int) -> int:
        """Read the directory, report it, and return its inode."""
        directory, contents = await asyncio.to_thread(_read_directory, self._directory)
        for gone in self._readings.keys() - contents.keys():
            del self._readings[gone]
        for name, text in contents.items():
            if text != self._contents.get(name):
                self._readings[name] = self._reading(name, text)
        self._contents = contents
        services, refused = self._collected()
        for name in refused.keys() | self._refused.keys():
            if refused.get(name) != self._refused.get(name):
                sink.refuse(generation, name, refused.get(name, ()))
        self._refused = refused
        sink.sync(generation, services)
        return directory

    def _reading(self, name: str, text: str) -> Reading:
        kept = self._readings.get(name, Reading())
        try:
            if kept.services and not text.strip():
                # Most often a file that is just being written.
                raise RecordError(codes.GARBLED, "it is empty; `services: []` says that there are none")  # noqa: TRY301
            return Reading(read_file(text, self._options.namespace))
        except RecordError as error:
            fault = Refusal(error.code, f"{name}: {error.reason}; what it said before is kept", name)
            _log.warning("%s", fault.reason)
            return Reading(kept.services, fault)

    def _collected(self) -> tuple[list[Service], dict[str, tuple[Refusal, ...]]]:
        """Return all services, and by file what is refused; of two with one key the first file by name has its say."""
        services: dict[str, Service] = {}
        refused: dict[str, tuple[Refusal, ...]] = {}
        for name, reading in sorted(self._readings.items()):
            refusals = [reading.fault] if reading.fault else []
            for service in reading.services:
                if service.key in services:
                    reason = f"{name}: {service.key} is there already; the first is served"
                    refusals.append(Refusal(codes.HOST_CONFLICT, reason, service.key))
                else:
                    services[service.key] = service
            if refusals:
                refused[name] = tuple(refusals)
        return list(services.values()), refused


def read_file(text: str, namespace: str) -> tuple[Service, ...]:
    """Read one file's services (pure). Raises RecordError: it is no YAML or not of this form."""
    try:
        documents = read_documents(text)
        if len(documents) > 1:
            raise RecordError(codes.GARBLED, f"{len(documents)} documents in one file; one is read")
        value = documents[0].value if documents else None
        content = msgspec.convert(value if value is not None else {}, FileContent)
    except ConfigError as error:
        raise RecordError(codes.GARBLED, printable(str(error))[:_LONGEST_REASON]) from error
    except msgspec.ValidationError as error:
        raise RecordError(codes.GARBLED, printable(str(error))[:_LONGEST_REASON]) from error
    return tuple(_service(service, namespace) for service in content.services)


def _service(service: FileService, default_namespace: str) -> Service:
    namespace = service.namespace or default_namespace
    numbers = {port.name: port.target_port or port.number for port in service.ports}
    return Service(
        key=f"{namespace}/{service.host}",
        identity=service.host,
        namespace=namespace,
        host=service.host,
        ports=tuple(Port(one.number, one.name, one.protocol, one.target_port) for one in service.ports),
        endpoints=tuple(_endpoint(endpoint, numbers) for endpoint in service.endpoints),
        export_to=service.export_to,
        revisions=service.revisions,
    )


def _endpoint(endpoint: FileEndpoint, numbers: dict[str, int]) -> Endpoint:
    workload = WorkloadEntry(
        endpoint.address,
        tuple(sorted({**numbers, **endpoint.ports}.items())),
        pairs(endpoint.labels),
        endpoint.weight,
        endpoint.locality,
        endpoint.network,
    )
    return Endpoint(workload, msgspec.json.encode(endpoint).decode())


def _read_directory(directory: Path) -> tuple[int, dict[str, str]]:
    """Return the directory's inode, and the text of every file in it by name."""
    try:
        inode = directory.stat().st_ino
        files = [file for file in directory.iterdir() if file.suffix in _SUFFIXES and file.is_file()]
    except OSError as error:
        raise SourceUnavailable(f"{directory}: {error.strerror}") from error
    return inode, {file.name: _read_text(file) for file in sorted(files)}


def _read_text(file: Path) -> str:
    """Return a file's text, or a text that is no YAML and says why it cannot be had."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return f"@ larger than {MAX_BYTES} bytes"
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"@ {error}"
