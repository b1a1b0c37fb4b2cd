"""What `brockman import` makes of each format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from brockman.cli import access_log
from brockman.cli.formats import read_lines
from brockman.cli.source import Arguments, BadLine, Source
from tests.cli.conftest import Import, recorded
from tests.collector.running import Running
from tests.support.server import RecordingServer

COMBINED = '203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /blog?page=2 HTTP/1.1" 200 2326 "-" "curl/8.5"'


def read(tmp_path: Path, content: bytes, name: str = "auto") -> list[tuple[int, Arguments | BadLine]]:
    path = tmp_path / "input"
    path.write_bytes(content)
    with Source(str(path)) as source:
        return list(read_lines(source, name))


def test_json_lines_arrive_as_they_are_written(collector: Running, run_import: Import) -> None:
    lines = [
        {"actor_id": "7", "action": "viewed", "object": "blog post", "variables": {"tags": ["a", "b"], "n": 1.5}},
        {"actor_id": 8, "action": "bought", "obj": "lamp", "identities": {"email": "ada@example.com"}},
        {"actor_id": "9", "action": "signed up", "object": "四季", "captured_attributes": {"plan": "team"}},
    ]
    ended = run_import(collector.endpoint, "\n\n".join(map(json.dumps, lines)))
    assert (ended.status, ended.err) == (0, "")
    assert recorded(collector) == [
        {
            "actor_id": "7",
            "action": "viewed",
            "object": "blog post",
            "variables": {"tags": ["a", "b"], "n": 1.5},
        },
        {
            "actor_id": "8",
            "action": "bought",
            "object": "lamp",
            "captured_identities": {"email": "ada@example.com"},
        },
        {"actor_id": "9", "action": "signed up", "object": "四季", "captured_attributes": {"plan": "team"}},
    ]


def test_what_the_collector_gives_out_can_be_imported_again(collector: Running, run_import: Import) -> None:
    run_import(collector.endpoint, COMBINED)
    (before,) = collector.stored()
    ended = run_import(collector.endpoint, json.dumps(before))
    assert ended.status == 0
    _, after = collector.stored()
    assert after["id"] != before["id"]
    assert after["variables"] == before["variables"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"actor_id": 1, "action": "viewed"', "not JSON: "),
        ("[1, 2]", "not a JSON object: '[1, 2]'"),
        ("[" * 100_000, "not JSON: "),
        ("9" * 10_000, "not "),
        ('{"actor_id": 1, "action": "viewed"}', "obj: None should be a str"),
        ('{"actor_id": "", "action": "viewed", "object": "page"}', "actor_id: '' (str) should not be empty"),
        ('{"actor_id": 1, "action": "a", "object": "o", "variables": {"x": NaN}}', "nan is not JSON"),
        ('{"actor_id": 1, "action": "a", "object": "o", "variables": {"x": {}}}', "variables['x']"),
        ('{"actor_id": 1, "action": "a", "object": "o", "varables": {}}', "'varables' is no field of a trigger"),
        ('{"actor_id": 1, "action": "a", "object": "o", "obj": "p"}', "object and obj are the same field"),
        ('{"actor_id": 1, "action": "a", "object": "' + "x" * 40_000 + '"}', "40"),
        ("x" * 1_100_000, "longer than 1048576 bytes"),
        ("\x1b[2Jnone", r"'\x1b[2Jnone'"),
    ],
    ids=lambda text: text[:40],
)
def test_a_line_that_is_no_trigger_is_reported_with_number_and_reason(
    server: RecordingServer, run_import: Import, line: str, reason: str
) -> None:
    good = '{"actor_id": 1, "action": "viewed", "object": "page"}'
    ended = run_import(server.endpoint, f"{good}\n\n{line}\n{good}\n")
    assert ended.status == 1
    assert len(server.triggers) == 2
    (report,) = ended.err.splitlines()
    assert report.startswith("line 3: ")
    assert reason in report
    assert (ended.row("lines read"), ended.row("delivered"), ended.row("bad lines")) == ("4", "2", "1")


def test_a_line_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    good = b'{"actor_id": 1, "action": "viewed", "object": "page"}\n'
    number, bad = read(tmp_path, good + b'{"actor_id": "\xe9"}\n' + good)[1]
    assert isinstance(bad, BadLine)
    assert (number, bad.reason) == (2, "not UTF-8: byte 0xe9 at position 15")


def test_csv_columns_become_identities_attributes_and_variables(collector: Running, run_import: Import) -> None:
    content = (
        "\ufeffactor_id,action,object,identities.email,attributes.plan,variables.title,variables.price,id\r\n"
        '7,viewed,blog post,ada@example.com,team,"Lamps, and\nmore ""light""",9.50,x\r\n'
        "\r\n"
        "8,bought,lamp,,,,12,y\r\n"
    )
    ended = run_import(collector.endpoint, content.encode())
    assert (ended.status, ended.err) == (0, "")
    assert recorded(collector) == [
        {
            "actor_id": "7",
            "action": "viewed",
            "object": "blog post",
            "captured_identities": {"email": "ada@example.com"},
            "captured_attributes": {"plan": "team"},
            "variables": {"title": 'Lamps, and\nmore "light"', "price": "9.50"},
        },
        {"actor_id": "8", "action": "bought", "object": "lamp", "variables": {"price": "12"}},
    ]


def test_csv_rows_that_are_wrong_are_reported_with_the_line_they_begin_on(tmp_path: Path) -> None:
    content = (
        b"action,actor_id,obj\n"
        b'viewed,1,"page\none"\n'  # lines 2 and 3
        b"viewed,2\n"
        b'viewed,3,"page" x\n'
        b"viewed,4,\xff\n"
        b'viewed,5,"page\n\xff"\n'  # lines 7 and 8
        b"viewed,6,page\n"
        b'viewed,7,"page\n'
    )
    good = Arguments("1", "viewed", "page\none", {}, {}, {})
    readings = read(tmp_path, content)
    assert [(number, one.reason if isinstance(one, BadLine) else one) for number, one in readings] == [
        (2, good),
        (4, "2 cells, where the header has 3"),
        (5, "not CSV: ',' expected after '\"'"),
        (6, "not UTF-8: byte 0xff at position 10"),
        (8, "not UTF-8: byte 0xff at position 1 (in the row from line 7)"),
        (9, good._replace(actor_id="6", obj="page")),
        (10, "not CSV: unexpected end of data"),
    ]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("actor_id,action", "it should name actor_id, action, object"),
        ("actor_id,action,object,email", "column 'email'"),
        ("actor_id,action,object,variables.", "column 'variables.'"),
        ("actor_id,action,object,obj", "'obj' twice"),
    ],
)
def test_a_csv_header_that_is_not_that_of_triggers_is_a_wrong_usage(
    server: RecordingServer, run_import: Import, header: str, told: str
) -> None:
    ended = run_import(server.endpoint, header + "\n1,2,3,4\n", "--format", "csv")
    assert ended.status == 2
    assert told in ended.err
    assert server.triggers == []


def test_an_access_log_line_becomes_a_trigger() -> None:
    assert access_log.parse(
        COMBINED.replace('"-"', '"https://example.com/"').replace("- -", "- ada", 1)
    ) == Arguments(
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
def test_access_log_lines_as_servers_write_them(line: str, expected: tuple[object, ...]) -> None:
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
def test_access_log_lines_that_are_no_request_are_reported(line: str, reason: str) -> None:
    parsed = access_log.parse(line)
    assert isinstance(parsed, BadLine)
    assert parsed.reason.startswith(reason)


def test_the_format_is_told_from_the_first_line_that_shows_it(tmp_path: Path) -> None:
    garbage = b"\x16\x03\n\n\xff\n"
    for content in (COMBINED.encode(), b'{"actor_id": 1}', b"action,object,actor_id\n1,2,3"):
        assert isinstance(read(tmp_path, content)[0][1], Arguments), content
    assert [number for number, _ in read(tmp_path, garbage + COMBINED.encode())] == [1, 3, 4]
    assert read(tmp_path, b"\n" * 1000 + COMBINED.encode())[0][0] == 1001
    assert read(tmp_path, b"") == read(tmp_path, b"\n \n") == []


def test_a_format_that_cannot_be_told_is_a_wrong_usage(server: RecordingServer, run_import: Import) -> None:
    ended = run_import(server.endpoint, "dear diary\n")
    assert ended.status == 2
    assert ended.err == "brockman import: the format cannot be told from the first lines; give --format\n"


def test_gzip_is_read_as_it_is_also_when_several_are_joined(collector: Running, run_import: Import) -> None:
    zipped = gzip.compress(f"{COMBINED}\n".encode() * 3) + gzip.compress(f"{COMBINED}\n".encode() * 2)
    ended = run_import(collector.endpoint, zipped)
    assert (ended.status, ended.row("lines read"), len(recorded(collector))) == (0, "5", 5)


def test_a_damaged_gzip_is_reported_after_what_came_before_it(collector: Running, run_import: Import) -> None:
    whole = gzip.compress("".join(f"{COMBINED} {n}\n" for n in range(5000)).encode())
    ended = run_import(collector.endpoint, whole[: len(whole) // 2])
    assert ended.status == 1
    (report,) = ended.err.splitlines()
    count = len(recorded(collector))
    assert count > 0
    assert report.startswith((f"line {count + 1}: ", f"line {count + 2}: "))
    assert "from here on the file cannot be read: " in report
