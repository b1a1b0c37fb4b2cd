"""A function for the setting `may_track`, or for your own to call."""

from __future__ import annotations

from typing import Any


def without_objection(request: Any) -> bool:
    """Return False when the browser says `Sec-GPC: 1` or `DNT: 1`. Takes the request of any framework.

    Global Privacy Control: https://www.w3.org/TR/gpc/; Do Not Track: https://www.w3.org/TR/tracking-dnt/
    """
    return not any(request.headers.get(name) == "1" for name in ("Sec-GPC", "DNT"))
