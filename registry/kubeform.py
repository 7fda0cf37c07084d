"""ServiceEntry and WorkloadEntry as Kubernetes writes them, to the model and back.

The form is that of `kubectl get -o json`: lowerCamel names, `metadata` and `spec`. What Kubernetes itself
adds (`status`, `uid`, `managedFields` and so on) is accepted and not read. A field that is null is not set.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from isthmus.registry import codes
from isthmus.registry.errors import RecordError
from isthmus.registry.model import (
    Location,
    Pairs,
    Port,
    Resolution,
    ServiceEntry,
    WorkloadEntry,
    pairs,
)

API_VERSION: Final = "networking.istio.io/v1"
DEFAULT_NAMESPACE: Final = "default"

_ApiVersion = Literal["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"]
_LIST_KINDS = ("List", "ServiceEntryList", "WorkloadEntryList")
# Maps from names of the user's own: a null in them is a mistake, not a field that is not set.
_OWN_NAMES = frozenset(("labels", "annotations", "ports"))
# spec.endpoints[].labels.key: nothing that is read lies deeper.
_DEPTH = 6
_MAX_REASON = 300
_FAULT = re.compile(r"(?P<what>.*?)(?: - at `(?P<key>key` in `)?\$(?P<path>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)


class WorkloadEntryDocument(Struct, frozen=True, gc=False):
    """A WorkloadEntry as a resource of its own: the workload, and what its metadata says."""

    namespace: str
    name: str
    workload: WorkloadEntry
    labels: Pairs = ()
    annotations: Pairs = ()


class _Form(Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    """Base of everything below: defaults are those of Istio's API, and are left out when written."""


class _Metadata(_Form):
    name: str
    namespace: str = DEFAULT_NAMESPACE
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: object = None
    deletion_grace_period_seconds: object = None
    deletion_timestamp: object = None
    finalizers: object = None
    generate_name: object = None
    generation: object = None
    managed_fields: object = None
    owner_references: object = None
    resource_version: object = None
    self_link: object = None
    uid: object = None


class _Port(_Form):
    number: int = 0
    name: str = ""
    protocol: str = ""
    target_port: int = 0


class _Workload(_Form):
    address: str = ""
    ports: dict[str, int] = {}
    labels: dict[str, str] = {}
    network: str = ""
    locality: str = ""
    weight: int = 0
    service_account: str = ""


class _Selector(_Form):
    labels: dict[str, str] = {}


class _Service(_Form):
    hosts: list[str] = []
    addresses: list[str] = []
    ports: list[_Port] = []
    location: Location = "MESH_EXTERNAL"
    resolution: Resolution = "NONE"
    endpoints: list[_Workload] = []
    workload_selector: _Selector | None = None
    export_to: list[str] = []
    subject_alt_names: list[str] = []


class _ServiceDocument(_Form, tag_field="kind", tag="ServiceEntry"):
    api_version: _ApiVersion
    metadata: _Metadata
    spec: _Service
    status: object = None


class _WorkloadDocument(_Form, tag_field="kind", tag="WorkloadEntry"):
    api_version: _ApiVersion
    metadata: _Metadata
    spec: _Workload
    status: object = None


def expand(value: object, path: str = "") -> list[tuple[str, object]]:
    """Return the single documents in a value, each with its path in it.

    A list holds its items, and so does a document of `kind: List` (or `ServiceEntryList`, as the API server
    writes); any other value is one document, whatever it is.
    """
    if isinstance(value, dict) and value.get("kind") in _LIST_KINDS:
        items = value.get("items")
        if isinstance(items, list):
            value, path = items, f"{path}.items" if path else "items"
    if not isinstance(value, list):
        return [(path, value)]
    return [found for index, item in enumerate(value) for found in expand(item, f"{path}[{index}]")]


def entry_from_document(document: object) -> ServiceEntry | WorkloadEntryDocument:
    """Return the resource that one document describes; what it leaves out has the default of Istio's API.

    Raises `RecordError` with the path of the fault (`spec.ports[0].number`) for a value of the wrong type, a
    field that Istio does not know, and anything that is no such document.
    """
    try:
        form = msgspec.convert(_set_fields(document), _ServiceDocument | _WorkloadDocument)
    except msgspec.ValidationError as error:
        raise RecordError(codes.GARBLED, _reason(str(error))) from error
    if isinstance(form, _ServiceDocument):
        return _service_entry(form.metadata, form.spec)
    metadata = form.metadata
    return WorkloadEntryDocument(
        metadata.namespace,
        metadata.name,
        _workload(form.spec),
        pairs(metadata.labels),
        pairs(metadata.annotations),
    )


def document_from_entry(entry: ServiceEntry) -> dict[str, Any]:
    """Return a ServiceEntry as a document that `kubectl apply` takes; defaults are left out."""
    selector = None if entry.workload_selector is None else _Selector(dict(entry.workload_selector))
    spec = _Service(
        hosts=list(entry.hosts),
        addresses=list(entry.addresses),
        ports=[_Port(port.number, port.name, port.protocol, port.target_port) for port in entry.ports],
        location=entry.location,
        resolution=entry.resolution,
        endpoints=[_workload_form(endpoint) for endpoint in entry.endpoints],
        workload_selector=selector,
        export_to=list(entry.export_to),
        subject_alt_names=list(entry.subject_alt_names),
    )
    metadata = {"name": entry.name, "namespace": entry.namespace}
    maps = {"labels": dict(entry.labels), "annotations": dict(entry.annotations)}
    return {
        "apiVersion": API_VERSION,
        "kind": "ServiceEntry",
        "metadata": metadata | {field: value for field, value in maps.items() if value},
        "spec": msgspec.to_builtins(spec),
    }


def _service_entry(metadata: _Metadata, spec: _Service) -> ServiceEntry:
    selector = spec.workload_selector
    return ServiceEntry(
        namespace=metadata.namespace,
        name=metadata.name,
        hosts=tuple(spec.hosts),
        addresses=tuple(spec.addresses),
        ports=tuple(Port(port.number, port.name, port.protocol, port.target_port) for port in spec.ports),
        location=spec.location,
        resolution=spec.resolution,
        endpoints=tuple(_workload(endpoint) for endpoint in spec.endpoints),
        workload_selector=None if selector is None else pairs(selector.labels),
        export_to=tuple(spec.export_to),
        subject_alt_names=tuple(spec.subject_alt_names),
        labels=pairs(metadata.labels),
        annotations=pairs(metadata.annotations),
    )


def _workload(form: _Workload) -> WorkloadEntry:
    return WorkloadEntry(
        address=form.address,
        ports=tuple(sorted(form.ports.items())),
        labels=pairs(form.labels),
        weight=form.weight,
        locality=form.locality,
        network=form.network,
        service_account=form.service_account,
    )


def _workload_form(workload: WorkloadEntry) -> _Workload:
    return _Workload(
        address=workload.address,
        ports=dict(workload.ports),
        labels=dict(workload.labels),
        network=workload.network,
        locality=workload.locality,
        weight=workload.weight,
        service_account=workload.service_account,
    )


def _set_fields(value: object, depth: int = 0, own_names: bool = False) -> object:
    """Return a document without the fields that are null."""
    if depth == _DEPTH:
        return value
    if isinstance(value, list):
        return [_set_fields(item, depth + 1) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        field: _set_fields(item, depth + 1, own_names=field in _OWN_NAMES)
        for field, item in value.items()
        if item is not None or own_names
    }


def _reason(text: str) -> str:
    """Turn an error of msgspec, which ends in a path that begins with `$`, into one that begins with it."""
    match = _FAULT.fullmatch(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    path = path.removeprefix(".") + (" (a key)" if match and match["key"] else "")
    if unknown := _UNKNOWN.fullmatch(what):
        path = f"{path}.{unknown['field']}" if path else unknown["field"]
        what = "there is no such field"
    what = f"{what[:1].lower()}{what[1:]}"
    return (f"{path}: {what}" if path else what)[:_MAX_REASON]
