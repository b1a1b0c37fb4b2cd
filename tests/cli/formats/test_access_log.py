"""The lines of an access log, as triggers."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from brockman.cli.formats import access_log
from brockman.cli.source import Arguments, BadLine
from tests.cli.test_formats import COMBINED


def test_a_line_becomes_a_trigger() -> None:
    line = COMBINED.replace('"-"', '"https://example.com/"').replace("- -", "- ada", 1)
    assert access_log.parse(line) == Arguments(
        "203.0.113.7",
        "GET",
        "/blog",
        {"user": "ada"},
        None,
        {
            "time": "2025-10-10T13:55:36+02:00",
            "status": 200,
            "bytes": 2326,
            "query": "page=2",
            "referer": "https://example.com/",
            "user_agent": "curl/8.5",
        },
        datetime(2025, 10, 10, 13, 55, 36, tzinfo=timezone(timedelta(hours=2))),
        text=line,
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '::1 - - [29/Feb/2024:23:59:60 +0000] "OPTIONS * HTTP/1.0" 200 - "-" "-"',
            ("::1", "OPTIONS", "*", {"time": "2024-02-29T23:59:59+00:00", "status": 200, "bytes": 0}),
        ),
        (
            '2001:db8::7 - - [01/Jan/2025:00:00:00 -0330] "POST /a b?x=1?y HTTP/2.0" 304 0',
            (
                "2001:db8::7",
                "POST",
                "/a b",
                {"time": "2025-01-01T00:00:00-03:30", "status": 304, "bytes": 0, "query": "x=1?y"},
            ),
        ),
        (
            r'h - - [01/Jan/2025:00:00:00 +0000] "GET /\xc3\xa9\"\\ HTTP/1.1" 200 5'
            r' "-" "a \"b\" \\ \x22c\x22 \t" "-" x',
            (
                "h",
                "GET",
                '/é"\\',
                {
                    "time": "2025-01-01T00:00:00+00:00",
                    "status": 200,
                    "bytes": 5,
                    "user_agent": 'a "b" \\ "c" \t',
                },
            ),
        ),
    ],
    ids=["no bytes, leap second", "IPv6, common format", "escapes, more fields"],
)
def test_lines_as_servers_write_them(line: str, expected: tuple[object, ...]) -> None:
    parsed = access_log.parse(line)
    assert isinstance(parsed, Arguments)
    assert (parsed.actor_id, parsed.action, parsed.obj, parsed.variables) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (COMBINED.replace("GET /blog?page=2 HTTP/1.1", "-"), "not a request: '-'"),
        (COMBINED.replace("GET /blog?page=2 HTTP/1.1", r"\x16\x03\x01\x02"), "not a request: "),
        (COMBINED.replace("GET /blog?page=2 HTTP/1.1", ""), "not a request: ''"),
        (COMBINED.replace("GET /blog?page=2 HTTP/1.1", "\x16\x03\x01"), r"not a request: '\x16\x03\x01'"),
        (COMBINED.replace("10/Oct", "31/Feb"), "not a time: "),
        (COMBINED.replace("13:55:36", "13:55:75"), "not a time: "),
        (COMBINED.replace("+0200", "+9900"), "not a time: "),
        (COMBINED.replace('"curl/8.5"', '"curl/8.5'), "not a line of a common or combined log: "),
        (COMBINED.replace("200 2326", "OK 2326"), "not a line of a common or combined log: "),
        ('"' * 100_000, "not a line of a common or combined log: "),
        ("a b " + " [" * 100_000, "not a line of a common or combined log: "),
    ],
    ids=lambda text: text[:40],
)
def test_lines_without_a_request_are_reported(line: str, reason: str) -> None:
    parsed = access_log.parse(line)
    assert isinstance(parsed, BadLine)
    assert parsed.reason.startswith(reason)
