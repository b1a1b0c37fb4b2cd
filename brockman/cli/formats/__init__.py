"""Parses lines into triggers: NDJSON, CSV, or an access log. No I/O, but for one warning.

detection -> csv_rows, json_log, access_log, ndjson -> csv_header, wrappers, addresses, fields -> times
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain, islice
from types import MappingProxyType

from brockman.cli.formats import access_log, json_log, ndjson
from brockman.cli.formats.csv_rows import read_csv
from brockman.cli.formats.detection import Survey, detect, find_second
from brockman.cli.formats.fields import check_mapping
from brockman.cli.source import Arguments, BadLine, Line, Reading, excerpt
from brockman.exceptions import ConfigurationError

_LOOK_LINES = 1000
_LOOK_CHARACTERS = 8 * 1024 * 1024
_HOW_TO_GO_ON = "To import it as it is, give --format {0}; to name a field, --map actor_id=NAME"
_DETECT_LINES = 100  # the first lines of a log may be garbage


def read_lines(
    lines: Iterable[Line],
    name: str,
    mapping: Mapping[str, str] = MappingProxyType({}),
    warn: Callable[[str], None] | None = None,
) -> Iterator[Reading]:
    """Parse lines of a format in `FORMATS`, or "auto"; skip blank ones.

    Args:
        lines: The lines of one file.
        name: With "auto" the first lines decide, and are all read before the first of them is returned.
        mapping: The name in the file of a trigger's field: actor_id, action, object, time, id, identities.NAME,
            attributes.NAME, variables.NAME.
        warn: Called at most once, if the first lines make no sense in the given format. Prints by default.

    Raises:
        ConfigurationError: If the format cannot be detected, the first lines make no sense in the one that was
            detected, the header of a CSV file is wrong, or the mapping is.
    """
    check_mapping(mapping)
    if name == "auto":
        return _read_detected(iter(lines), mapping)
    return _read_given(FORMATS[name](lines, mapping), Survey(name, mapping), warn or _print_warning)


def _print_warning(text: str) -> None:
    print(f"brockman import: {text}", file=sys.stderr)


def _read_given(readings: Iterator[Reading], survey: Survey, warn: Callable[[str], None]) -> Iterator[Reading]:
    yield from survey.watch(islice(readings, _LOOK_LINES))
    problem = survey.problem()
    if problem is not None:
        warn(f"warning: {problem}")
    yield from readings


def _read_detected(lines: Iterator[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    first = _take_first(lines)
    texts = [text for _, text in first if isinstance(text, BadLine) or text.strip("\0 ")]
    if not texts:
        return iter(())  # an empty file has every format
    name = next(filter(None, (detect(text, mapping) for text in texts[:_DETECT_LINES])), None)
    if name is None:
        text = texts[0].text if isinstance(texts[0], BadLine) else texts[0]
        raise ConfigurationError(f"cannot detect the format from the first lines; give --format: {excerpt(text)}")
    survey = Survey(name, mapping)
    readings = FORMATS[name](chain(first, lines), mapping)
    looked: list[Reading] = []
    for reading in survey.watch(readings):
        looked.append(reading)
        if reading[0] >= first[-1][0]:
            break
    bad = {number for number, reading in looked if isinstance(reading, BadLine)}
    problem = survey.problem() or find_second(
        (text for number, text in first if number in bad), len(looked), mapping
    )
    if problem is not None:
        raise ConfigurationError(f"{problem}. Nothing was sent. {_HOW_TO_GO_ON.format(name)}")
    return chain(looked, readings)


def _take_first(lines: Iterator[Line]) -> list[Line]:
    """Return the first lines, from the first that is not blank on."""
    taken: list[Line] = []
    size = 0
    for line in lines:
        if not taken and isinstance(line[1], str) and not line[1].strip("\0 \t"):
            continue
        taken.append(line)
        size += len(line[1])
        if len(taken) == _LOOK_LINES or size > _LOOK_CHARACTERS:
            break
    return taken


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
    return _parse_each(partial(access_log.parse_mapped, mapping=mapping) if mapping else access_log.parse, lines)


def _read_json_log(lines: Iterable[Line], mapping: Mapping[str, str]) -> Iterator[Reading]:
    return _parse_each(partial(json_log.parse, mapping=mapping), lines)


FORMATS: dict[str, Callable[[Iterable[Line], Mapping[str, str]], Iterator[Reading]]] = {
    "ndjson": _read_ndjson,
    "csv": read_csv,
    "combined": _read_combined,
    "jsonlog": _read_json_log,
}
