"""Every case of the conformance table (reference/xds-conformance.md) has a test here that carries its number."""

from __future__ import annotations

import re
from pathlib import Path

CASES = {f"X{number:02}" for number in range(1, 66)}
TEST = re.compile(r"^(?:async )?def test_((?:X\d\d_)+)", re.MULTILINE)


def test_no_case_is_without_a_test() -> None:
    files = Path(__file__).parent.glob("test_*.py")
    named = {case for file in files for prefix in TEST.findall(file.read_text()) for case in prefix.split("_")}
    assert CASES - named == set()
    assert named - {""} <= CASES, "a number that is none of the table's"
