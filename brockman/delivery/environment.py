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
from brockman.process.log import Log

_SHORTEST = 5  # letters of a name without its prefix; shorter ones are like too many
_SIMILARITY = 0.8
_KNOWN = tuple(PREFIX + name.upper() for table in (Options, CelerySettings) for name in table.names())
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
    """Return the names that are nearly those of settings, each with the one that was probably meant."""
    rests = [name.removeprefix(PREFIX) for name in known]
    found = {}
    for name in sorted(names):
        rest = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and name not in known and len(rest) >= _SHORTEST:
            near = difflib.get_close_matches(rest.upper(), rests, 1, _SIMILARITY)
            if near:
                found[name] = PREFIX + near[0]
    return found
