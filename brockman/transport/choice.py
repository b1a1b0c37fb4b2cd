"""Which transport sends, as the settings want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brockman.options import Options
from brockman.transport import Transport
from brockman.transport.memory import MemoryTransport

if TYPE_CHECKING:
    import requests


def make_transport(options: Options, session: requests.Session | None) -> Transport:
    """Return a transport that has opened no connection."""
    if not options.enabled:
        return MemoryTransport()  # takes no room, and is never asked to send
    # Imported here: it takes longer than all the rest. And not later: an import in the flusher's thread would
    # stall the requests that are served meanwhile.
    from brockman.transport.http import HttpTransport

    assert options.api_key is not None
    return HttpTransport(
        options.endpoint,
        options.api_key,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        compress=options.gzip,
        session=session,
    )
