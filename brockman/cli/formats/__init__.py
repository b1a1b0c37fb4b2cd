"""Parses lines into triggers: NDJSON, CSV, or an access log. No I/O, but for one warning.

detection -> csv_rows, json_log, access_log, ndjson -> csv_header, wrappers, addresses, fields -> times
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from types import MappingProxyType

from brockman.cli.formats import access_log, json_log, ndjson
from brockman.cli.formats.csv_rows import read_csv
from brockman.cli.formats.detection import Survey, detect
from brockman.cli.formats.fields import check_mapping
from brockman.cli.source import Arguments, BadLine, Line, Reading, Source, excerpt
from brockman.exceptions import ConfigurationError

_LOOK_LINES = 1000
_LOOK_CHARACTERS = 8 * 1024 * 1024
_DETECT_LINES = 100  # the first lines of a log may be garbage


def read_lines(
    lines: Iterable[Line],
    name: str,
    mapping: Mapping[str, str] = MappingProxyType({}),
    *,
    warn: Callable[[str], None] | None = None,
) -> Iterator[Reading]:
    """Parse lines of a format in `FORMATS`, or "auto"; skip blank ones.

    Args:
        lines: The lines of one file.
        name: With "auto" the first lines decide, and are looked at before any of them is returned; those of a
            pipe, which may stay open, one after the other.
        mapping: The name in the file of a trigger's field: actor_id, action, object, time, id, identities.NAME,
            attributes.NAME, variables.NAME.
        warn: Called at most once, if the first lines make no sense in the given format. Prints by default.

    Raises:
        ConfigurationError: If the format cannot be detected, the first lines make no sense in the one that was
            detected, the header of a CSV file is wrong, or the mapping is.
    """
    check_mapping(mapping)
    if name == "auto":
        return _read_detected(iter(lines), mapping, is_pipe=isinstance(lines, Source) and lines.size is None)
    return _read_given(FORMATS[name](lines, mapping), Survey(name, mapping), warn or _print_warning)


def _print_warning(text: str) -> None:
    print(f"brockman import: {text}", file=sys.stderr)


def _read_given(readings: Iterator[Reading], survey: Survey, warn: Callable[[str], None]) -> Iterator[Reading]:
    yield from survey.watch(islice(readings, _LOOK_LINES))
    problem = survey.problem()
    if problem is not None:
        warn(f"warning: {problem}")
    yield from readings


def _read_detected(lines: Iterator[Line], mapping: Mapping[str, str], *, is_pipe: bool) -> Iterator[Reading]:
    name: str | None = None
    first: list[Line] = []
    for line in lines:
        if first or isinstance(line[1], BadLine) or line[1].strip("\0 \t"):
            first.append(line)
            name = detect(line[1], mapping)
        if name is not None or len(first) == _DETECT_LINES:
            break
    if not first:
        return iter(())  # an empty file has every format
    if name is None:
        raise ConfigurationError(f"cannot detect the format from the first lines; {_advise(first[0][1], mapping)}")
    if not is_pipe:
        first += _take_within(lines, _LOOK_CHARACTERS)
    readings = FORMATS[name](chain(first, lines), mapping)
    look = _look_one_by_one if is_pipe else _look_at_all
    return chain(look(readings, first, Survey(name, mapping)), readings)


def _advise(text: str | BadLine, mapping: Mapping[str, str]) -> str:
    if isinstance(text, BadLine):
        return f"give --format: {text.reason}: {excerpt(text.text)}"
    if text.lstrip().startswith("["):
        return f"each line should be a JSON object, not an array (jq -c '.[]' makes it so): {excerpt(text)}"
    return f"give --format{' or another --map' if mapping else ''}: {excerpt(text)}"


def _take_within(lines: Iterator[Line], characters: int) -> Iterator[Line]:
    for line in islice(lines, _LOOK_LINES):
        yield line
        characters -= len(line[1].text if isinstance(line[1], BadLine) else line[1])
        if characters < 0:
            break


def _look_at_all(readings: Iterator[Reading], first: Sequence[Line], survey: Survey) -> list[Reading]:
    """Return the readings of the first lines."""
    looked: list[Reading] = []
    for reading in survey.watch(readings):
        looked.append(reading)
        if reading[0] >= first[-1][0]:
            break
    bad = {number for number, reading in looked if isinstance(reading, BadLine)}
    problem = survey.problem() or survey.find_second(text for number, text in first if number in bad)
    if problem is not None:
        raise ConfigurationError(f"{problem}. Nothing was sent. {survey.how_to_go_on}")
    return looked


def _look_one_by_one(readings: Iterator[Reading], _: Sequence[Line], survey: Survey) -> Iterator[Reading]:
    for reading in survey.watch(islice(readings, _LOOK_LINES)):
        problem = survey.problem()
        if problem is not None:
            raise ConfigurationError(f"{problem}. Only the lines before were sent. {survey.how_to_go_on}")
        yield reading


def _parse_each(parse: Callable[[str], Arguments | BadLine], lines: Iterable[Line]) -> Iterator[Reading]:
    for number, line in lines:
        if isinstance(line, BadLine):
            yield number, line
        elif "!" <= line[:1] < "\ufeff" or line.strip("\0\ufeff \t\r\v\f"):
            yield number, parse(line)


def _read_ndjson(lines: Iterable[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    return _parse_each(partial(ndjson.parse, mapping=mapping), lines)


def _read_combined(lines: Iterable[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    access_log.check_names(mapping)
    parse = partial(access_log.parse_mapped, mapping=mapping) if mapping else access_log.parse
    return _parse_each(parse, access_log.find_cut(lines))


def _read_json_log(lines: Iterable[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    return _parse_each(partial(json_log.parse, mapping=mapping), lines)


FORMATS: dict[str, Callable[[Iterable[Line], Mapping[str, str]], Iterator[Reading]]] = {
    "ndjson": _read_ndjson,
    "csv": read_csv,
    "combined": _read_combined,
    "jsonlog": _read_json_log,
}
