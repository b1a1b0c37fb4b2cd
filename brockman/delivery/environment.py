"""The environment: the settings of a client, and variables that were meant as settings."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from logging import WARNING
from typing import Any

from brockman.options import Options
from brockman.options.celery import CelerySettings
from brockman.options.fields import PREFIX, show
from brockman.options.table import KeylessOptions
from brockman.options.web import WebSettings
from brockman.process.log import Log

_SHORTEST = 5  # letters of a name without prefix and underscores; shorter ones are like too many
_LONG = 8  # letters; two of a shorter name may make another word (FL_APP_KEY)
_UNITS = {"MS", "S", "SEC", "SECONDS", "KB", "MB"}
_KNOWN = tuple(PREFIX + name.upper() for table in (Options, CelerySettings, WebSettings) for name in table.names())
_log = Log()


def read_options(keywords: Mapping[str, Any], *, needs_key: bool) -> Options:
    """Return the options of a client, and warn of misspelt variables.

    Raises:
        ConfigurationError: For an unknown keyword, a wrong value, or a key that is needed and missing.
    """
    warn_of_misspelt()
    return (Options if needs_key else KeylessOptions).read(keywords, os.environ)


@cache  # once in this process
def warn_of_misspelt() -> None:
    """Log each variable that is nearly a setting; never its value."""
    for name, near in find_misspelt(list(os.environ)).items():
        # Noted before it is written: a handler may make a client.
        _log.once(WARNING, f"the environment has {show(name)}, which is no setting; did you mean {near}?")
    _log.write()


def find_misspelt(names: Iterable[str], known: Collection[str] = _KNOWN) -> dict[str, str]:
    """Return the names that are slips of settings' names, each with the one that was probably meant.

    Other products have variables that begin with `FL_` too. A name that is longer or shorter by whole words is
    theirs, unless the last word is a unit.
    """
    found = {}
    for name in sorted(set(names) - set(known)):
        if name.upper().startswith(PREFIX):
            slips = {
                setting: slip for setting in known if (slip := _count_slips(name.upper(), setting)) is not None
            }
            if slips:
                found[name] = min(slips, key=slips.__getitem__)
    return found


def _count_slips(name: str, setting: str) -> int | None:
    """Return how many letters are missing, added or moved (which counts twice); None for more than two."""
    words, right = ([word for word in text.split("_")[1:] if word] for text in (name, setting))
    if words[:-1] == right and words[-1] in _UNITS:
        return 0
    if set(words) < set(right) or set(words) > set(right):
        return None
    written, meant = "".join(words), "".join(right)
    same = sum(block.size for block in difflib.SequenceMatcher(None, written, meant).get_matching_blocks())
    slips = len(written) + len(meant) - 2 * same
    allows_two = len(meant) >= _LONG or sorted(written) == sorted(meant)
    return slips if len(meant) >= _SHORTEST and slips <= (2 if allows_two else 1) else None
