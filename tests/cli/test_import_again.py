"""Importing a file again changes nothing: each line has an id that depends only on what it says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from brockman.cli.formats import read_lines
from brockman.cli.ids import NAMESPACE, ContentIds
from brockman.cli.source import Arguments, BadLine, Source
from tests.cli.conftest import Import, row
from tests.collector.running import Running
from tests.support.programs import Ended
from tests.support.server import RecordingServer

NDJSON = "\n".join(
    json.dumps(
        {"actor_id": str(n % 3), "action": "viewed", "object": "page", "variables": {"n": n % 5, "of": [1, 2]}}
    )
    for n in range(40)
)


def counts(ended: Ended) -> tuple[str, str, str]:
    """Return the rows new, repeated and bad lines."""
    return row(ended, "new"), row(ended, "repeated"), row(ended, "bad lines")


def log_lines(count: int) -> list[str]:
    """Return lines of an access log, five a second; every tenth is the same as the one before."""
    rand = random.Random(count)
    lines: list[str] = []
    for number in range(count):
        minute, second = divmod(number // 5, 60)
        time = f"10/Oct/2025:{13 + minute // 60:02d}:{minute % 60:02d}:{second:02d} +0200"
        line = f'203.0.113.{rand.randrange(200)} - - [{time}] "GET /page/{number} HTTP/1.1" 200 {number} "-" "x"'
        lines.append(lines[-1] if number % 10 == 1 else line)
    return lines


def time_of(line: str) -> str:
    hour, rest = line.split("2025:")[1][:2], line.split("2025:")[1][2:8]
    return f"2025-10-10T{int(hour) - 2:02d}{rest}.000000Z"


def test_a_log_that_grew_and_was_rotated_is_held_once(
    collector: Running, run_import: Import, tmp_path: Path
) -> None:
    """Under the times of its lines, those included that are the same as another one."""
    lines = log_lines(3600)
    log, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    log.write_text("\n".join(lines[:3000]) + "\n")
    assert counts(run_import(collector.endpoint, log)) == ("3000", "0", "0")
    log.write_text("\n".join(lines[:3300]) + "\n")
    assert counts(run_import(collector.endpoint, log)) == ("300", "3000", "0")
    log.rename(rotated)
    log.write_text("\n".join(lines[3300:]) + "\n")
    assert counts(run_import(collector.endpoint, tmp_path / "access.log*")) == ("300", "3300", "0")
    Path(f"{rotated}.gz").write_bytes(gzip.compress(rotated.read_bytes()))
    rotated.unlink()
    ended = run_import(collector.endpoint, tmp_path / "access.log*")
    assert (counts(ended), ended.status) == (("0", "3600", "0"), 0)

    stored = [(trigger["object"], trigger["recorded_at"]) for trigger in collector.stored()]
    assert Counter(stored) == Counter((line.split()[6], time_of(line)) for line in lines)


def test_lines_that_are_the_same_are_all_kept_and_all_recognised_again(
    collector: Running, run_import: Import
) -> None:
    """As far as a file repeats them."""
    line = '{"actor_id": "7", "action": "viewed", "object": "page"}\n'
    assert counts(run_import(collector.endpoint, line * 3)) == ("3", "0", "0")
    assert counts(run_import(collector.endpoint, line * 3)) == ("0", "3", "0")
    assert counts(run_import(collector.endpoint, line * 5)) == ("2", "3", "0")


@pytest.mark.parametrize(
    "change",
    [
        lambda text: gzip.compress(text.encode()),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode() + b"\n\n",
        lambda text: "\n".join(reversed(text.splitlines())).encode(),
        lambda text: "\n".join(json.dumps(json.loads(line), sort_keys=True) for line in text.split("\n")).encode(),
    ],
    ids=["compressed", "CRLF", "BOM and blank lines", "another order", "another order of fields"],
)
def test_another_file_with_the_same_lines_is_recognised(
    change: Any, collector: Running, run_import: Import
) -> None:
    assert counts(run_import(collector.endpoint, NDJSON)) == ("40", "0", "0")
    assert counts(run_import(collector.endpoint, change(NDJSON))) == ("0", "40", "0")


def test_a_table_whose_columns_were_moved_is_recognised(collector: Running, run_import: Import) -> None:
    rows = [
        {"actor_id": f"{n % 4}", "action": "bought", "object": "a, b", "variables.n": f"{n % 2}"}
        for n in range(20)
    ]
    for columns, expected in [(list(rows[0]), ("20", "0", "0")), (list(rows[0])[::-1], ("0", "20", "0"))]:
        out = io.StringIO()
        table = csv.DictWriter(out, columns)
        table.writeheader()
        table.writerows(rows)
        assert counts(run_import(collector.endpoint, out.getvalue())) == expected


def test_an_id_and_a_time_of_the_file_are_kept(collector: Running, run_import: Import) -> None:
    own = {"id": "0199d6b1-7c5e-7000-8000-0123456789ab", "recorded_at": "2025-10-10T13:55:36+02:00"}
    line = json.dumps({"actor_id": "7", "action": "viewed", "object": "page", **own})
    assert counts(run_import(collector.endpoint, f"{line}\n{line}")) == ("1", "1", "0")
    (stored,) = collector.stored()
    assert (stored["id"], stored["recorded_at"]) == (own["id"], "2025-10-10T11:55:36.000000Z")


def test_an_id_of_two_lines_that_differ_is_reported(collector: Running, run_import: Import) -> None:
    """The collector would keep the first in silence. The same line twice is a repeat."""
    own = {"id": "0199d6b1-7c5e-7000-8000-0123456789ab", "recorded_at": "2025-10-10T13:55:36+02:00"}
    first, second = (
        json.dumps({"actor_id": "7", "action": "viewed", "object": page, **own}) for page in ("home", "blog")
    )
    same = first.replace(own["id"], own["id"].upper())
    ended = run_import(collector.endpoint, f"{first}\n{second}\n{same}\n")
    assert counts(ended) == ("1", "1", "1")
    assert f"line 2: id: {own['id']} is also that of a line before, which says something else" in ended.err
    assert ended.status == 1


def test_an_id_that_is_no_uuid_is_unique_together_with_the_rest_of_its_line(
    collector: Running, run_import: Import
) -> None:
    """As the numbers of the rows of two tables are."""
    orders, visits = (
        f"id,actor_id,action,object\n1,7,{action},page\n2,7,{action},page\n" for action in ("bought", "visited")
    )
    assert counts(run_import(collector.endpoint, orders)) == ("2", "0", "0")
    assert counts(run_import(collector.endpoint, visits)) == ("2", "0", "0")
    assert counts(run_import(collector.endpoint, orders)) == ("0", "2", "0")


def test_a_line_without_a_time_is_recorded_at_the_time_of_its_first_import(
    collector: Running, run_import: Import
) -> None:
    line = '{"actor_id": "7", "action": "viewed", "object": "page"}'
    run_import(collector.endpoint, line)
    first = collector.stored()
    run_import(collector.endpoint, line)
    assert collector.stored() == first


def test_ids_are_of_version_5_and_made_as_the_documentation_says() -> None:
    """So that other programs can make them too, and a later version of this one makes the same."""
    trigger = Arguments("7", "viewed", "四季", None, {}, {"b": [1, "x"], "a": 1.5})
    name = "('7', 'viewed', '\\u56db\\u5b63', None, None, [('a', 1.5), ('b', [1, 'x'])], None)"
    ids = ContentIds()
    made = [UUID(ids.stamp(trigger)[0]) for _ in range(3)]
    assert made == [uuid5(NAMESPACE, name), uuid5(NAMESPACE, f"{name}\n1"), uuid5(NAMESPACE, f"{name}\n2")]
    assert str(made[0]) == "5a57a694-3367-586d-9dcc-1c9fabf041a2"


@pytest.mark.parametrize("behind", ["", ' "198.51.100.9, 10.0.0.1"'])
def test_a_line_that_is_being_written_is_not_taken_for_another(behind: str, tmp_path: Path) -> None:
    r"""Cut off behind the bytes it is one of the common format; behind `\"` its user agent seems to end."""
    log = tmp_path / "access.log"
    first, last = (
        f'203.0.113.{n} - - [10/Oct/2025:13:55:3{n} +0200] "GET / HTTP/1.1" 200 2326 "-" "a \\"b\\" c"{behind}'
        for n in (1, 2)
    )
    for end in range(len(last)):
        log.write_text(f"{first}\n{last[:end]}")
        with Source(str(log)) as source:
            (_, reading), *cut = read_lines(source, "auto")
        assert isinstance(reading, Arguments)
        assert all(isinstance(line, BadLine) for _, line in cut), last[:end]
    log.write_text(f"{first}\n{last}")
    with Source(str(log)) as source:
        assert [type(reading) for _, reading in read_lines(source, "auto")] == [Arguments, Arguments]


def test_a_line_with_half_a_character_in_json_is_imported() -> None:
    log = '203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] \\"GET /\\ud83d HTTP/1.1\\" 200 2'
    ((_, reading),) = read_lines([(1, f'{{"log": "{log}"}}')], "combined")
    assert isinstance(reading, Arguments)
    assert UUID(ContentIds().stamp(reading)[0]).version == 5


@pytest.mark.parametrize(
    "prefix", ["", "\0\0", "Oct 10 13:55:36 web1 nginx[99]: ", "2025-10-10T11:55:36Z stdout F "]
)
def test_the_id_of_a_log_line_is_made_of_its_text(prefix: str) -> None:
    """Whatever else later versions read in it, and whichever log of another program it went through."""
    line = '203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /blog HTTP/1.1" 200 2326 "-" "curl/8"'
    ((_, reading),) = read_lines([(1, f"{prefix}{line} ")], "combined")
    assert isinstance(reading, Arguments)
    assert UUID(ContentIds().stamp(reading)[0]) == uuid5(NAMESPACE, line)


def test_where_the_server_does_not_say_what_is_repeated_the_table_says_so(
    server: RecordingServer, run_import: Import
) -> None:
    ended = run_import(server.endpoint, NDJSON)
    assert (row(ended, "new"), row(ended, "repeated")) == ("40", "unknown")
    assert "accepted by the server, repeated or not" in ended.out
