"""The page of the istiods: what each stored of what is published for it (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isthmus.debug.query import ListQuery, paginate, read_token, token_of
from isthmus.debug.redact import shown, shown_address
from isthmus.debug.shapes import DifferenceShape, DifferencesShape, IstiodShape, Listing, StoreState
from isthmus.debug.sources import age

if TYPE_CHECKING:
    from isthmus.app import Bridge
    from isthmus.readback.compare import Fault, Report
    from isthmus.readback.reader import Readback


def list_istiods(bridge: Bridge, query: ListQuery, now: float) -> Listing[IstiodShape]:
    """All istiods that are read back, in the order of the configuration."""
    readbacks = bridge.readbacks
    page, last = paginate(range(len(readbacks)), read_token(query.after, int), query.limit)
    items = [_istiod(readbacks[place], now) for place in page]
    return Listing(items=items, total=len(readbacks), after=token_of(last))


def _istiod(readback: Readback, now: float) -> IstiodShape:
    report = readback.report
    return IstiodShape(
        name=shown_address(readback.name),
        address=shown_address(readback.options.address),
        revision=shown(readback.options.revision),
        state=_state(report),
        read_seconds=age(readback.read_at, now),
        errors=readback.errors,
        last_error=None if readback.last_error is None else shown(readback.last_error),
        published=report.published if report else None,
        stored=report.stored if report else None,
        settling=report.settling if report else 0,
        missing=_differences(report, "missing"),
        differing=_differences(report, "differing"),
        hidden=_differences(report, "hidden"),
        left_over=_differences(report, "leftOver"),
        others=report.others if report else 0,
    )


def _state(report: Report | None) -> StoreState:
    if report is None:
        return "NOT_READ"
    if not report.right:
        return "WRONG"
    return "SETTLING" if report.settling else "RIGHT"


def _differences(report: Report | None, fault: Fault) -> DifferencesShape:
    if report is None:
        return DifferencesShape(total=0, items=[])
    listed = report.faults[fault]
    items = [
        DifferenceShape(name=shown(name), published=finding.published or None, stored=shown(finding.stored) or None)
        for name, finding in listed.first
    ]
    return DifferencesShape(total=listed.total, items=items)
