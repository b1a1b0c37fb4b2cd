"""Names from `tests.support`, until all tests import them from there."""

from __future__ import annotations

from tests.support.scripts import EXIT_STATUS as STATUS
from tests.support.scripts import RECORD_AT_EXIT as LATE

__all__ = ["LATE", "STATUS"]
