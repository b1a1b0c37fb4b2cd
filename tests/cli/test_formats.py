"""The formats of `brockman import`, from a file to the triggers that arrive."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from brockman.cli.formats import read_lines
from brockman.cli.source import Arguments, BadLine, Source
from tests.cli.conftest import Import, recorded, row
from tests.collector.running import Running
from tests.support.server import RecordingServer

COMBINED = '203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /blog?page=2 HTTP/1.1" 200 2326 "-" "curl/8.5"'


def read(tmp_path: Path, content: bytes, name: str = "auto") -> list[tuple[int, Arguments | BadLine]]:
    path = tmp_path / "input"
    path.write_bytes(content)
    with Source(str(path)) as source:
        return list(read_lines(source, name))


def test_json_lines_arrive_unchanged(collector: Running, run_import: Import) -> None:
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


def test_triggers_read_from_the_collector_can_be_imported(collector: Running, run_import: Import) -> None:
    """They keep their id and time, so they are there once."""
    run_import(collector.endpoint, COMBINED)
    (before,) = collector.stored()
    ended = run_import(collector.endpoint, json.dumps(before))
    assert ended.status == 0
    assert collector.stored() == [before]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"actor_id": 1, "action": "viewed"', "not JSON: "),
        ("[1, 2]", "not a JSON object: '[1, 2]'"),
        ("[" * 100_000, "not JSON: "),
        ("9" * 10_000, "not "),
        ('{"actor_id": 1, "action": "viewed"}', "obj: None should be a str"),
        ('{"actor_id": "", "action": "viewed", "object": "page"}', "actor_id: '' (str) should not be empty"),
        ('{"actor_id": {"x": []}, "action": "a", "object": "o"}', "actor_id"),
        ('{"actor_id": 1, "action": "a", "object": "o", "variables": {"x": NaN}}', "nan is not JSON"),
        ('{"actor_id": 1, "action": "a", "object": "o", "variables": {"x": {}}}', "variables['x']"),
        (
            '{"actor_id": 1, "action": "a", "object": "o", "varables": {}}',
            "'varables' is not a field",
        ),
        ('{"actor_id": 1, "action": "a", "object": "o", "obj": "p"}', "object and obj are the same field"),
        ('{"actor_id": 1, "action": "a", "object": "' + "x" * 40_000 + '"}', "40"),
        ("x" * 1_100_000, "longer than 1048576 bytes"),
        ("\x1b[2Jnone", r"'\x1b[2Jnone'"),
    ],
    ids=lambda text: text[:40],
)
def test_a_line_that_is_not_a_trigger_is_reported_with_number_and_reason(
    server: RecordingServer, run_import: Import, line: str, reason: str
) -> None:
    good = '{"actor_id": 1, "action": "viewed", "object": "page"}'
    ended = run_import(server.endpoint, f"{good}\n\n{line}\n{good}\n")
    assert ended.status == 1
    assert len(server.triggers) == 2
    (report,) = ended.err.splitlines()
    assert report.startswith("line 3: ")
    assert reason in report
    assert (row(ended, "lines read"), row(ended, "new"), row(ended, "bad lines")) == ("4", "2", "1")


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


def test_a_wrong_csv_row_is_reported_with_its_first_line(tmp_path: Path) -> None:
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
    ("header", "error"),
    [
        ("actor_id,action", "it should name actor_id, action, object"),
        ("actor_id,action,object,email", "column 'email'"),
        ("actor_id,action,object,variables.", "column 'variables.'"),
        ("actor_id,action,object,user.email", "column 'user.email'"),
        ("actor_id,action,object,identities", "column 'identities'"),
        ("actor_id,action,object,obj", "'obj' twice"),
    ],
)
def test_a_wrong_csv_header_is_wrong_usage(
    server: RecordingServer, run_import: Import, header: str, error: str
) -> None:
    ended = run_import(server.endpoint, header + "\n1,2,3,4\n", "--format", "csv")
    assert ended.status == 2
    assert error in ended.err
    assert server.triggers == []


def test_the_format_is_detected_from_the_first_line_that_has_it(tmp_path: Path) -> None:
    garbage = b"\x16\x03\n\n\xff\n"
    for content in (COMBINED.encode(), b'{"actor_id": 1}', b"action,object,actor_id\n1,2,3"):
        assert isinstance(read(tmp_path, content)[0][1], Arguments), content
    assert [number for number, _ in read(tmp_path, garbage + COMBINED.encode())] == [1, 3, 4]
    assert read(tmp_path, b"\n" * 1000 + COMBINED.encode())[0][0] == 1001
    assert read(tmp_path, b"") == read(tmp_path, b"\n \n") == []


def test_an_unknown_format_is_wrong_usage(server: RecordingServer, run_import: Import) -> None:
    ended = run_import(server.endpoint, "dear diary\n")
    assert ended.status == 2
    assert (
        ended.err
        == "brockman import: cannot detect the format from the first lines; give --format: 'dear diary'\n"
    )


def test_gzip_is_decompressed_also_several_streams_in_a_file(collector: Running, run_import: Import) -> None:
    zipped = gzip.compress(f"{COMBINED}\n".encode() * 3) + gzip.compress(f"{COMBINED}\n".encode() * 2)
    ended = run_import(collector.endpoint, zipped)
    assert (ended.status, row(ended, "lines read"), len(recorded(collector))) == (0, "5", 5)


def test_damaged_gzip_is_reported_after_the_lines_before_it(collector: Running, run_import: Import) -> None:
    whole = gzip.compress("".join(f"{n % 9}{COMBINED} {n}\n" for n in range(5000)).encode())
    ended = run_import(collector.endpoint, whole[: len(whole) // 2])
    assert ended.status == 1
    (report,) = ended.err.splitlines()
    count = len(recorded(collector))
    assert count > 0
    assert report.startswith((f"line {count + 1}: ", f"line {count + 2}: "))
    assert "the rest of the file cannot be read: " in report
