"""The plugin for pytest, which loads it where brockman is installed.

`brockman.django.test_runs` recognises a test run by this module being loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from brockman.testing import Outbox


@pytest.fixture
def focuslab_outbox() -> Iterator[Outbox]:
    """The triggers recorded in this test. Nothing is sent; see `brockman.testing`."""
    from brockman.testing import capture

    with capture() as outbox:
        yield outbox
