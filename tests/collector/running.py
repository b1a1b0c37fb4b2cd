"""A running collector as a client sees it, and what the tests send to it."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import requests

from brockman.collector.validation import Row
from tests.support.client import KEY

JSON = {"Content-Type": "application/json"}


def trigger(**more: Any) -> dict[str, Any]:
    """Return a valid trigger with a new id."""
    return {
        "actor_id": "7",
        "action": "viewed",
        "object": "page",
        "id": str(uuid.uuid4()),
        "recorded_at": "2026-11-23T17:22:32.123456Z",
        **more,
    }


def make_row(name: str, **columns: Any) -> Row:
    """Return a row for a store; its id depends on the name alone."""
    row = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        "actor_id": "7",
        "action": "viewed",
        "object": "page",
        "recorded_at": 0,
        "received_at": 0,
        "body": f'"{name}"',
        **columns,
    }
    return cast(Row, tuple(row.values()))


@dataclass
class Running:
    """One collector, in a thread (`stop`, `thread`) or in a process."""

    endpoint: str
    database: Path
    session: requests.Session
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.endpoint)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def post(
        self, content: Any, headers: dict[str, str] | None = None, key: str | None = KEY
    ) -> requests.Response:
        """Post bytes as they are, or a value as JSON."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        keyed = {} if key is None else {"X-FL-API-KEY": key}
        return self.session.post(
            self.endpoint + "trigger/", data=body, headers={**JSON, **keyed, **(headers or {})}, timeout=20
        )

    def get(self, path: str = "trigger/", key: str | None = KEY, **parameters: str) -> requests.Response:
        headers = {} if key is None else {"X-FL-API-KEY": key}
        return self.session.get(self.endpoint + path, params=parameters, headers=headers, timeout=20)

    def headers(self) -> dict[str, str]:
        return {"X-FL-API-KEY": KEY}

    def stored(self, **filters: str) -> list[dict[str, Any]]:
        """Return all triggers, page by page."""
        found: list[dict[str, Any]] = []
        after = "0"
        while after is not None:
            page = self.get(after=after, limit="10000", **filters).json()
            found += page["triggers"]
            after = page["next"]
        assert len(found) == page["total"]
        return found

    def ids(self) -> list[str]:
        return [stored["id"] for stored in self.stored()]

    def stats(self) -> dict[str, int]:
        return dict(self.get("stats/").json())

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send bytes over a new connection; return status, headers and body of the response."""
        with self.connect() as connection:
            connection.sendall(request)
            return read_response(connection)


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of the next response."""
    response = HTTPResponse(connection)
    try:
        response.begin()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        response.close()


def head(*lines: str) -> bytes:
    """Return the head of a POST with valid headers and the given ones."""
    fixed = ["POST /api/v1/trigger/ HTTP/1.1", "Host: 127.0.0.1", f"X-FL-API-KEY: {KEY}"]
    if not any(line.lower().startswith("content-type") for line in lines):
        fixed.append("Content-Type: application/json")
    return "\r\n".join([*fixed, *lines, "", ""]).encode()
