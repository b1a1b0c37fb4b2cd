"""A web application that records a trigger for each page it serves, without waiting for it to be sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

from brockman.client import FocusLabClient
from brockman.wsgi import FocusLabMiddleware

PAGES = {"/": "Welcome\n", "/pricing": "It costs nothing\n", "/blog": "Nothing has happened yet\n"}

client = FocusLabClient()  # one for the process; key and endpoint come from FL_API_KEY and FL_ENDPOINT


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve a page, and record that the visitor viewed it."""
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")  # WSGI decodes bytes as latin-1
    page = PAGES.get(path)
    client.record_trigger(
        action="viewed" if page else "missed",
        obj=path,
        variables={"browser": environ.get("HTTP_USER_AGENT"), "referer": environ.get("HTTP_REFERER")},
    )
    start_response("200 OK" if page else "404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
    return [(page or "There is no such page\n").encode()]


tracked = FocusLabMiddleware(application)  # identifies the visitor by a cookie; a mistake makes no page fail


def main() -> None:
    """Serve until Ctrl-C. When the process exits, the client sends the triggers that wait."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with make_server("127.0.0.1", port, tracked) as server:
        print(f"serving on http://127.0.0.1:{server.server_port}/", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"recorded {client.stats().recorded}")


if __name__ == "__main__":
    main()
