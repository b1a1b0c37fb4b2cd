"""Why no answer came, from the exceptions that tell it."""

from __future__ import annotations

import http.client
import re
from typing import Any

_HARMLESS = ("Could not find a suitable TLS CA", "Missing dependencies for SOCKS")  # beginnings, of requests


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the error and what lies behind it, outermost first: requests and urllib3 keep it in four places."""
    found: list[BaseException] = []
    queue: list[Any] = [error]
    while queue:
        candidate = queue.pop(0)
        if isinstance(candidate, BaseException) and candidate not in found:
            found.append(candidate)
            queue += [
                candidate.__cause__,
                candidate.__context__,
                getattr(candidate, "reason", None),
                *candidate.args,
            ]
    return found


def words_of(cause: BaseException) -> str | None:
    """Return what one cause says, if that is known to hold nothing secret, as a proxy's URL holds its password."""
    if isinstance(cause, http.client.RemoteDisconnected):
        return "the connection was closed before an answer"
    if type(cause).__name__ == "CertificateError" or str(cause).startswith(_HARMLESS):
        return str(cause)
    refused = re.match(r"Tunnel connection failed: (\d+)", str(cause))  # the proxy's own words follow
    if refused:
        advice = "; check the proxy's user and password" if refused[1] == "407" else ""
        return f"the proxy answered {refused[1]}{advice}"
    return getattr(cause, "strerror", None)
