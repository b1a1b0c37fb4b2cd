"""Finds the format of a file, and looks at its first lines for signs that it is another one. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from brockman.cli.formats import access_log, json_log, ndjson
from brockman.cli.formats.csv_header import DELIMITERS, SEPARATOR, find_header
from brockman.cli.formats.wrappers import unwrap, unwrap_object
from brockman.cli.source import Arguments, BadLine, Reading, excerpt

LOGS = ("combined", "jsonlog")  # the actor is the client's address
_MIN_LINES = 20  # fewer say nothing


def detect(text: str | BadLine, mapping: Mapping[str, str]) -> str | None:
    """Return the name of the format that a line has, or None."""
    if isinstance(text, BadLine):
        return None
    text = text.lstrip("\0\ufeff \t")
    if text.startswith("{"):
        return _detect_object(text, mapping)
    if access_log.is_line(text):
        return "combined"
    if SEPARATOR.fullmatch(text) or find_header(text, mapping, DELIMITERS):
        return "csv"
    inner = unwrap(text)
    return _detect_object(inner, mapping) if inner.startswith("{") else None


def _detect_object(text: str, mapping: Mapping[str, str]) -> str:
    value = json_log.load_log(text)
    if isinstance(value, BadLine) or ndjson.is_trigger(value, mapping):
        return "ndjson"
    if json_log.is_request(value):
        return "jsonlog"
    inner = unwrap_object(value)
    found = detect(inner, mapping) if inner is not None and len(inner) < len(text) else None
    return found if found in LOGS else "ndjson"


class Survey:
    """Looks at the first lines as they were parsed."""

    def __init__(self, format_name: str, mapping: Mapping[str, str]) -> None:
        self._name, self._mapping = format_name, mapping
        self._asks_for_actors = format_name in LOGS and "actor_id" not in mapping
        self._total = 0
        self._bad = 0
        self._actors: set[str] = set()
        self._example = ""
        self._first_bad = ""

    def watch(self, readings: Iterator[Reading]) -> Iterator[Reading]:
        for reading in readings:
            self._add(*reading)
            yield reading

    def _add(self, number: int, reading: Arguments | BadLine) -> None:
        self._total += 1
        if isinstance(reading, Arguments) and all(part is not None and part != "" for part in reading[:3]):
            self._actors.add(str(reading.actor_id))
            actor_id, action, obj = (excerpt(str(part), 40) for part in reading[:3])
            self._example = (
                self._example or f". Line {number} was read as actor_id={actor_id} action={action} object={obj}"
            )
            return
        self._bad += 1
        reason = reading.reason if isinstance(reading, BadLine) else "actor_id, action or object is missing"
        self._first_bad = self._first_bad or f"line {number}: {reason}"

    def problem(self) -> str | None:
        """Return the reason for which the lines should not be imported as they are, or None."""
        if self._total <= _MIN_LINES:
            return None
        if self._bad * 2 >= self._total:
            bad = f"{self._bad} of the first {self._total} lines cannot be read as {self._name}"
            return f"{bad} ({self._first_bad}){self._example}"
        if self._asks_for_actors and len(self._actors) == 1 and self._total - self._bad > _MIN_LINES:
            return f"the first {self._total} lines have one actor, perhaps the address of a proxy{self._example}"
        return None

    def find_second(self, bad: Iterable[str | BadLine]) -> str | None:
        """Return the problem that more than a tenth of the lines have another format, or None."""
        if self._total <= _MIN_LINES:
            return None
        counts = Counter(found for text in bad if (found := detect(text, self._mapping)) is not None)
        others = [f"{count} are {found}" for found, count in counts.items() if count * 10 > self._total]
        return f"of the first {self._total} lines, {' and '.join(others)}, not {self._name}" if others else None

    @property
    def how_to_go_on(self) -> str:
        return f"To import it as it is, give --format {self._name}; to name a field, --map actor_id=NAME"
