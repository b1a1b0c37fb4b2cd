"""The format of a file, and what stops before anything is sent."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator
from itertools import count

import pytest

from brockman.cli.formats import FORMATS, read_lines
from brockman.cli.source import Arguments, BadLine
from brockman.exceptions import ConfigurationError
from tests.cli.conftest import Import, command
from tests.cli.formats.test_lines import FILES, cases
from tests.support.client import KEY
from tests.support.programs import started
from tests.support.server import RecordingServer

NGINX = '{"remote_addr": "%s", "time_iso8601": "2025-10-10T13:55:36+02:00", "request": "GET / HTTP/1.1"}'
LOG = '%s - - [10/Oct/2025:13:55:36 +0200] "GET / HTTP/1.1" 200 1 "-" "x"'
TRIGGER = '{"actor_id": "%s", "action": "viewed", "object": "page"}'


def lines(texts: Iterable[str]) -> Iterator[tuple[int, str]]:
    return enumerate(texts, 1)


def problem(texts: Iterable[str], mapping: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_lines(lines(texts), "auto", mapping or {})
    return str(caught.value)


def actors(template: str, number: int) -> list[str]:
    return [template % f"203.0.113.{index}" for index in range(number)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_format_of_every_kind_of_log_is_detected(path) -> None:
    """Reading with and without --format gives the same."""
    texts = [line for line, _ in cases(path)]
    name = path.stem.partition("-")[0]
    assert list(read_lines(lines(texts), "auto")) == list(FORMATS[name](lines(texts), {}))


def test_an_object_that_is_a_trigger_is_no_log_line() -> None:
    """Although it has fields that a log has too."""
    line = json.dumps({"actor_id": 7, "action": "GET", "object": "/", "variables": {"status": 200}})
    ((_, reading),) = read_lines(lines([line]), "auto")
    assert reading == Arguments(7, "GET", "/", None, None, {"status": 200})


@pytest.mark.parametrize("template", [LOG, NGINX])
def test_a_log_with_one_actor_is_a_question(template: str) -> None:
    """Behind a proxy every address is the proxy's."""
    text = problem([template % "10.0.0.1"] * 30)
    assert text.startswith(
        "the first 30 lines have one actor, perhaps the address of a proxy. Line 1 was read as "
    )
    assert "was read as actor_id='10.0.0.1' action='GET' object='/'" in text
    assert "give --format " in text
    assert "--map actor_id=" in text
    assert len(list(read_lines(lines([template % "10.0.0.1"] * 20), "auto"))) == 20
    assert len(list(read_lines(lines([TRIGGER % 7] * 30), "auto"))) == 30
    assert len(list(read_lines(lines([TRIGGER.replace('"%s"', "0")] * 30), "auto"))) == 30


def test_lines_of_which_half_are_bad_are_a_question() -> None:
    """The answer names a bad line, its reason, and a good one."""
    texts = [line for pair in zip(actors(LOG, 15), count(), strict=False) for line in map(str, pair)]
    text = problem(texts)
    assert text.startswith("15 of the first 30 lines cannot be read as combined (line 2: not a line of")
    assert "Line 1 was read as actor_id='203.0.113.0'" in text
    assert len(list(read_lines(lines([*texts, *actors(LOG, 9)]), "auto"))) == 39


def test_objects_that_are_no_triggers_are_a_question() -> None:
    """A field that each of them lacks is as good as a bad line."""
    assert "'event' is not a field of a trigger" in problem(['{"event": "viewed", "user": 7}'] * 21)
    assert "actor_id, action or object is missing" in problem(['{"actor_id": 7, "action": "viewed"}'] * 21)


def test_two_formats_in_one_file_are_a_question() -> None:
    text = problem(actors(LOG, 30) + actors(NGINX, 10))
    assert text.startswith("of the first 40 lines, 10 are jsonlog, not combined")


def test_json_in_the_cells_of_a_table_is_no_second_format() -> None:
    row = '7,viewed,page,"\n{NGINX}\n"'.format(NGINX=NGINX.replace('"', '""'))
    texts = "\n".join(["actor_id,action,object,variables.x", *[row] * 30]).split("\n")
    readings = list(read_lines(lines(texts), "auto"))
    assert [number for number, _ in readings] == list(range(2, 92, 3))


def test_a_given_format_goes_on_and_warns_once() -> None:
    """Also a mapping of the actor answers the question for one actor."""
    warnings: list[str] = []
    texts = [LOG % "10.0.0.1"] * 3000
    assert len(list(read_lines(lines(texts), "combined", warn=warnings.append))) == 3000
    (warning,) = warnings
    assert warning.startswith("warning: the first 1000 lines have one actor")
    texts = [text.replace("- -", "- ada") for text in texts]
    readings = list(read_lines(lines(texts), "auto", {"actor_id": "user", "identities.ip": "address"}))
    assert len(readings) == 3000
    assert readings[0][1][:4] == ("ada", "GET", "/", {"user": "ada", "ip": "10.0.0.1"})


def test_a_given_format_does_not_wait_for_more_lines() -> None:
    """Lines of a pipe that stays open are sent as they come."""
    texts = iter(actors(LOG, 1))
    readings = read_lines(((number, next(texts)) for number in count(1)), "combined")
    assert next(readings)[0] == 1


def test_nothing_is_sent_before_the_question(server: RecordingServer, run_import: Import) -> None:
    ended = run_import(server.endpoint, "\n".join([LOG % "10.0.0.1"] * 2000))
    assert ended.status == 2
    assert "Nothing was sent" in ended.err
    assert server.triggers == []


def test_lines_of_a_pipe_are_sent_as_they_come_until_they_make_no_sense(server: RecordingServer) -> None:
    """The pipe may stay open; with a file nothing would have been sent."""
    with started(
        command("import", "-", "--endpoint", server.endpoint, "--api-key", KEY), stdin=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write(LOG % "10.0.0.1" + "\n")
        process.stdin.flush()
        server.wait_until(lambda server: len(server.triggers) == 1)
        _, err = process.communicate("".join([LOG % "10.0.0.1" + "\n"] * 50))
    assert process.returncode == 2
    assert "the first 21 lines have one actor" in err
    assert "Only the lines before were sent" in err
    assert len(server.triggers) <= 20


def test_what_is_no_format_is_told_with_what_to_do() -> None:
    assert "not an array (jq -c '.[]' makes it so)" in problem([f"[{TRIGGER}]"])
    assert "give --format: 'hello'" in problem(["hello"])
    with pytest.raises(ConfigurationError, match="give --format: not UTF-8: 'M"):
        read_lines([(1, BadLine("not UTF-8", "M?ller"))], "auto")
    assert "give --format or another --map: 'who,action" in problem(["who,action,object"], {"actor_id": "user"})


def test_a_duration_is_no_time_of_a_request() -> None:
    for duration in ("0.05", '"0.050"', "17"):
        line = f'{{"ip": "1.2.3.4", "request": "GET / HTTP/1.1", "time": {duration}, "ts": 1760097336}}'
        ((_, reading),) = read_lines(lines([line]), "auto")
        assert isinstance(reading, Arguments)
        assert reading.at is not None
        assert reading.at.timestamp() == 1760097336


def test_a_wrong_mapping_of_a_log_is_wrong_usage() -> None:
    with pytest.raises(ConfigurationError, match="a line has address, user, time, method"):
        read_lines(lines(actors(LOG, 1)), "combined", {"actor_id": "usr"})


def test_a_log_of_unusual_names_is_read_with_a_mapping() -> None:
    line = '{"who": {"ip": "203.0.113.7"}, "when": 1760097336, "what": "GET", "where": "/blog", "status": 200}'
    mapping = {"actor_id": "who.ip", "time": "when", "action": "what", "object": "where"}
    ((_, reading),) = read_lines(lines([line]), "jsonlog", mapping)
    assert isinstance(reading, Arguments), reading
    assert reading[:3] == ("203.0.113.7", "GET", "/blog")
    assert reading.variables == {"time": "2025-10-10T11:55:36+00:00", "status": 200}
    ((_, same),) = read_lines(lines([line]), "auto", mapping)
    assert isinstance(same, Arguments)
    assert same[:3] == reading[:3]


@pytest.mark.parametrize("name", [*FORMATS, "auto"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 300_000,
        '"' * 300_000,
        " [" * 150_000,
        "a b c [x] " + '"' * 300_000,
        'a b c [x] "' + '" 200 1 "' * 40_000,
        'a b c [x] "' + "\\" * 300_001,
        "a " * 150_000 + '[x] "',
        "1.2.3.4, " * 30_000 + '- - [x] "GET / HTTP/1.1" 200 1',
        "- " * 150_000 + '[x] "GET / HTTP/1.1" 200 1',
        'a b c [x] "GET / HTTP/1.1" 200 1 "-" "-" ' + '"1.1.1.1" ' * 30_000,
        'a b c [x] "GET / HTTP/1.1" 200 1' + " " * 300_000 + "x",
        "<1>1 a b c d e [" + 'a="' * 100_000,
        "<1>1 a b c d e " + "[a]" * 100_000,
        "<1>" * 100_000,
        "a" * 300_000 + " | ",
        "2025-10-10 00:00:00 " * 15_000,
        '{"log": ' * 30_000,
        "{" + '"a":1,' * 50_000,
        '{"log": "' + "\\x" * 100_000,
        "sep=" * 70_000,
        "actor_id,action,object" + "," * 300_000,
        "actor_id;action;object" + ',"' * 100_000,
        "\0" * 300_000,
        "\r" * 300_000,
    ],
    ids=lambda text: text[:30],
)
def test_a_hostile_line_costs_no_more_than_its_length(text: str, name: str) -> None:
    """No pattern takes quadratic time: each of these would then take minutes."""
    try:
        readings = list(read_lines(lines([text, text]), name, warn=lambda warning: None))
    except ConfigurationError:
        return
    assert all(isinstance(reading, (Arguments, BadLine)) for _, reading in readings)
