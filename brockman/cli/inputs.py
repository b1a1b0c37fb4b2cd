"""The files that a command line names: patterns expanded, in order, each once."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Iterable

from brockman.exceptions import ConfigurationError

STDIN = "-"
_COMPRESSED = re.compile(r"\.(?:gz|z|bz2|xz|zst)$", re.IGNORECASE)
_ROTATED = re.compile(r"\.(\d{1,4})")  # of a logrotate without dates: the greatest number is the oldest
_DATED = re.compile(r"[-._](\d{4}[-_]?\d\d[-_]?\d\d.*|\d{9,})")
_DIGITS = re.compile(r"(\d+)")


def find_inputs(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the files that are named, and a sentence for each that is left out because it is another one's.

    Sorted by name, but older logs first: access.log.2.gz, access.log.1, access.log. `-`, standard input, is last.

    Raises:
        ConfigurationError: For a pattern without a match.
    """
    found: dict[str, None] = {}
    for name in names:
        found |= dict.fromkeys([name] if name == STDIN or os.path.lexists(name) else _expand(name))
    kept: dict[object, str] = {}
    again = []
    for path in sorted(found, key=_age):
        file = _identify(path)
        if file in kept:
            again.append(f"{path!r} is the same file as {kept[file]!r}; it is read once")
        else:
            kept[file] = path
    return list(kept.values()), again


def total_size(paths: Iterable[str]) -> int | None:
    """Return the bytes of all files; None if that is unknown, as it is of a pipe."""
    total = 0
    for path in paths:
        status = _status(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None
        total += status.st_size
    return total


def _expand(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]  # opening it says what is wrong
    paths = [path for path in glob.glob(pattern, recursive=True) if not os.path.isdir(path)]
    if not paths:
        raise ConfigurationError(f"no file matches {pattern!r}")
    return paths


def _age(path: str) -> tuple[object, ...]:
    """Return what sorts the files of a rotated log from the oldest to the newest."""
    folder, name = os.path.split(path)
    name = _COMPRESSED.sub("", name)
    stem, suffix = name, (2, 0, "")
    for start in (match.start() for match in re.finditer(r"[-._]", name)):
        rotated, dated = _ROTATED.fullmatch(name, start), _DATED.fullmatch(name, start)
        if start and (rotated or dated):
            stem, suffix = name[:start], (1, -int(rotated[1]), "") if rotated else (0, 0, name[start:])
            break
    natural = tuple((int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(stem))
    return path == STDIN, folder, natural, suffix, path


def _identify(path: str) -> object:
    """Return the identity of a regular file, whatever its name, and the name of anything else."""
    status = _status(path)
    return (status.st_dev, status.st_ino) if status is not None and stat.S_ISREG(status.st_mode) else path


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path if path != STDIN else sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):  # reading it says what is wrong
        return None
