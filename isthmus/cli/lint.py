"""`isthmus lint`: would istiod accept these ServiceEntries and WorkloadEntries, and if not, why?

Exit code 0: all are accepted; 1: some are refused; 2: a file cannot be read as YAML or JSON, and then no
verdict on any file is given.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from msgspec import Struct, to_builtins

from isthmus.adapters.yamldoc import read_documents, read_text
from isthmus.registry.acceptance import resource_reasons, service_entry_reasons, workload_entry_reasons
from isthmus.registry.errors import ConfigError, RecordError
from isthmus.registry.kubeform import WorkloadEntryDocument, entry_from_document, expand

if TYPE_CHECKING:
    import argparse

    from isthmus.registry.model import ServiceEntry

_STDIN = "-"


class Verdict(Struct, frozen=True):
    """What istiod would say of one document: `ok`, or the reasons why not; and where the document stands."""

    ok: bool
    reasons: tuple[str, ...]
    file: str
    line: int | None
    kind: str | None = None
    namespace: str | None = None
    name: str | None = None


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command to the command line."""
    parser = subparsers.add_parser(
        "lint",
        help="say whether istiod would accept ServiceEntries and WorkloadEntries",
        description="Say whether istiod would accept ServiceEntries and WorkloadEntries, and if not, why. "
        "Exit code 0: all are accepted, 1: some are refused, 2: a file cannot be read.",
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML or JSON, one document or many; - is stdin")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="form of the answer")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Judge every document of `args.files`, print the verdicts, return the exit code."""
    verdicts: list[Verdict] = []
    mistakes: list[str] = []
    for file in args.files:
        try:
            verdicts += judge_text(read_text(None if file == _STDIN else file), file)
        except ConfigError as error:
            mistakes += [f"{file}: {mistake}" for mistake in error.mistakes]
    if mistakes:
        print(*map(_printable, mistakes), sep="\n", file=sys.stderr)
        return 2
    if args.output == "json":
        print(json.dumps([to_builtins(verdict) for verdict in verdicts], indent=2))
    else:
        print(*map(_text, verdicts), sep="\n", end="\n" if verdicts else "")
    if not verdicts:
        print("no documents found", file=sys.stderr)
    return 0 if all(verdict.ok for verdict in verdicts) else 1


def judge_text(text: str, file: str) -> list[Verdict]:
    """Return the verdict on each document of a text, in order.

    Raises `ConfigError` if the text cannot be read as YAML or JSON.
    """
    return [
        _judge(value, file, document.lines.get(path))
        for document in read_documents(text)
        for path, value in expand(document.value)
    ]


def _judge(value: object, file: str, line: int | None) -> Verdict:
    try:
        entry = entry_from_document(value)
    except RecordError as error:
        return Verdict(False, (error.reason,), file, line)
    reasons = _reasons(entry)
    kind = "WorkloadEntry" if isinstance(entry, WorkloadEntryDocument) else "ServiceEntry"
    return Verdict(not reasons, reasons, file, line, kind, entry.namespace, entry.name)


def _reasons(entry: ServiceEntry | WorkloadEntryDocument) -> tuple[str, ...]:
    if not isinstance(entry, WorkloadEntryDocument):
        return service_entry_reasons(entry)
    metadata = resource_reasons(entry.namespace, entry.name, entry.annotations)
    return metadata + workload_entry_reasons(entry.workload)


def _text(verdict: Verdict) -> str:
    place = verdict.file if verdict.line is None else f"{verdict.file}:{verdict.line}"
    title = f"{verdict.kind} {verdict.namespace}/{verdict.name}" if verdict.kind else "document"
    head = f"{place}: {title}: {'accepted' if verdict.ok else 'refused'}"
    return "\n".join(map(_printable, (head, *(f"  - {reason}" for reason in verdict.reasons))))


def _printable(line: str) -> str:
    """Escape what a terminal would act on: names and reasons hold text of strangers (T23)."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
