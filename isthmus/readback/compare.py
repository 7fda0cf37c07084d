"""What an istiod should hold against what it does hold, one reading after another (pure).

istiod stores a change within a second or two, so a difference that was just seen means nothing. It counts once two
readings in a row found it the same way, some seconds apart; one of versions only if meanwhile nothing new was published
under that name, since a service that flaps is never quite up to date anywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from isthmus.readback.configz import Stored

Fault = Literal["missing", "differing", "hidden", "leftOver"]

FAULTS: Final[tuple[Fault, ...]] = get_args(Fault)
LISTED: Final = 100


class Snapshot(Struct, frozen=True):
    """What an istiod should hold at one moment.

    versions: by name. marks: by name, an object that is another one after every change: a version can come back.
    """

    versions: Mapping[str, str]
    marks: Mapping[str, object]


class Finding(Struct, frozen=True, gc=False):
    """How istiod differs in one name. published, stored: versions; empty where there is none."""

    fault: Fault
    published: str
    stored: str


class Listed(Struct, frozen=True):
    """The names with one fault: how many, and the first of them in order."""

    total: int
    first: tuple[tuple[str, Finding], ...]


class Report(Struct, frozen=True):
    """What one reading came to.

    published: how many resources istiod should hold; stored: how many of them it holds as they are published.
    settling: differences that are too new to count. others: resources of ours that this process never published.
    faults: `missing`: istiod does not have it; `differing`: it has another version of it; `hidden`: it has one of
        this name from another source; `leftOver`: it has one that is no longer published.
    """

    published: int
    stored: int
    settling: int
    others: int
    faults: Mapping[Fault, Listed]

    @property
    def right(self) -> bool:
        """Whether nothing is wrong for certain."""
        return not any(listed.total for listed in self.faults.values())


class _Suspicion(Struct, frozen=True, eq=False):
    """A finding of the last reading, and since when it has been found. mark: what was published, then as now."""

    finding: Finding
    mark: object
    since: float

    def agrees(self, finding: Finding, mark: object) -> bool:
        """Tell whether another reading finds the same: of versions, the same two."""
        if finding.fault == "differing":
            return self.finding == finding and self.mark is mark
        return self.finding.fault == finding.fault


class Comparison:
    """Compares the readings of one istiod. settle: seconds for which a difference has to last."""

    def __init__(self, settle: float) -> None:
        self._settle = settle
        self._suspicions: dict[str, _Suspicion] = {}
        self._published_once: set[str] = set()

    def compare(self, before: Snapshot, after: Snapshot, stored: Mapping[str, Stored], now: float) -> Report:
        """Compare one reading.

        before, after: what istiod should hold as the reading began and as it ended. now: seconds, as it ended.
        """
        ours = {name for name, one in stored.items() if one.ours}
        self._published_once = ours & (self._published_once | before.versions.keys() | after.versions.keys())
        findings = dict(self._findings(after.versions, stored))
        self._suspicions = {
            name: self._suspicion(name, finding, after.marks.get(name), now)
            for name, finding in findings.items()
            if _is_steady(name, finding, before, after)
        }
        certain = {name: one.finding for name, one in self._suspicions.items() if self._lasted(one, now)}
        return Report(
            published=len(after.versions),
            stored=len(after.versions) - sum([finding.fault != "leftOver" for finding in findings.values()]),
            settling=len(findings) - len(certain),
            others=len(ours - self._published_once),
            faults={fault: _listed(certain, fault) for fault in FAULTS},
        )

    def _findings(self, published: Mapping[str, str], stored: Mapping[str, Stored]) -> Iterator[tuple[str, Finding]]:
        for name, version in published.items():
            one = stored.get(name)
            if one is None:
                yield name, Finding("missing", version, "")
            elif not one.ours:
                yield name, Finding("hidden", version, one.version)
            elif one.version != version:
                yield name, Finding("differing", version, one.version)
        for name in self._published_once - published.keys():
            yield name, Finding("leftOver", "", stored[name].version)

    def _suspicion(self, name: str, finding: Finding, mark: object, now: float) -> _Suspicion:
        known = self._suspicions.get(name)
        since = known.since if known is not None and known.agrees(finding, mark) else now
        return _Suspicion(finding, mark, since)

    def _lasted(self, suspicion: _Suspicion, now: float) -> bool:
        return suspicion.since < now and now - suspicion.since >= self._settle


def _is_steady(name: str, finding: Finding, before: Snapshot, after: Snapshot) -> bool:
    """Tell whether what is published did not change during a reading, so far as the finding depends on it."""
    if finding.fault == "differing":
        return before.marks.get(name) is after.marks.get(name)
    return (name in before.versions) == (name in after.versions)


def described(report: Report, names: int) -> str:
    """Return the faults of a report in words, with the first few names of each."""
    return "; ".join(_described(fault, listed, names) for fault, listed in report.faults.items() if listed.total)


def _described(fault: Fault, listed: Listed, names: int) -> str:
    shown = [name for name, _ in listed.first[:names]]
    more = ["…"] if listed.total > len(shown) else []
    return f"{listed.total} {_WORDS[fault]} ({', '.join(shown + more)})"


_WORDS: Final[Mapping[Fault, str]] = {
    "missing": "missing",
    "differing": "of another version",
    "hidden": "hidden by another source",
    "leftOver": "left over",
}


def _listed(certain: Mapping[str, Finding], fault: Fault) -> Listed:
    names = _names(certain, fault)
    return Listed(len(names), tuple([(name, certain[name]) for name in names[:LISTED]]))


def _names(certain: Mapping[str, Finding], fault: Fault) -> list[str]:
    return sorted([name for name, finding in certain.items() if finding.fault == fault])
