"""The plugin for pytest: loaded by itself where brockman is installed.

That this module is loaded is the sign by which `brockman.django.test_runs` knows a test run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from brockman.testing import Outbox


@pytest.fixture
def focuslab_outbox() -> Iterator[Outbox]:
    """What clients record in this test. Nothing is sent; see `brockman.testing`."""
    from brockman.testing import capture

    with capture() as outbox:
        yield outbox
