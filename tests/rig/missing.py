"""What a test does where its tool cannot be had: it says so and is left out, and in CI it fails."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from tests.rig.tools import MissingToolError


def leave_out(error: MissingToolError) -> NoReturn:
    """Skip the test that is running; in CI a missing tool is a failure."""
    if os.environ.get("CI"):
        pytest.fail(str(error))
    pytest.skip(str(error))
