"""A function for the setting `FL_MAY_TRACK`, or for your own to call."""

from __future__ import annotations

from django.http import HttpRequest


def without_objection(request: HttpRequest) -> bool:
    """Return False when the browser says `Sec-GPC: 1` or `DNT: 1`.

    Global Privacy Control: https://www.w3.org/TR/gpc/; Do Not Track: https://www.w3.org/TR/tracking-dnt/
    """
    return not any(request.headers.get(name) == "1" for name in ("Sec-GPC", "DNT"))
