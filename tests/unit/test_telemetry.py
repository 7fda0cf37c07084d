"""isthmus/telemetry.py: one line a record, whatever a registry wrote into it."""

from __future__ import annotations

import io
import json
import logging

import pytest

from isthmus.telemetry import LogFormat, configure_logging


def logged(form: LogFormat, message: str) -> str:
    out = io.StringIO()
    configure_logging("info", form, out)
    logging.getLogger("isthmus.test").info("%s", message)
    logging.getLogger("isthmus.test").debug("not this")
    return out.getvalue()


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("hostile", ["a\n12:00:00 error forged", "\x1b[31mred", "\u202egnp", "\ud800"])
def test_T11_a_record_forges_no_line_and_no_colour(form: LogFormat, hostile: str) -> None:
    text = logged(form, hostile)

    assert text.count("\n") == 1
    assert hostile not in text
    assert text.rstrip("\n").isprintable()


def test_it_is_JSON_where_nobody_reads_along() -> None:
    fields = json.loads(logged("auto", "hello"))

    assert (fields["level"], fields["logger"], fields["message"]) == ("info", "isthmus.test", "hello")


def test_a_traceback_goes_with_its_record() -> None:
    out = io.StringIO()
    configure_logging("info", "json", out)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("isthmus.test").exception("failed")

    assert "ValueError: broken" in json.loads(out.getvalue())["traceback"]
