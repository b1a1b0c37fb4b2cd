"""Values on the command line: `variables.total=12`, `--variable tags=sale`. No I/O."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from brockman.cli.conditions import check_text
from brockman.exceptions import ConfigurationError
from brockman.options.fields import show


def parse_value(text: str) -> Any:
    """Return the value of JSON, such as `12`, `true`, `"12"` or `["a"]`; what is not JSON is itself, a text."""
    try:
        return json.loads(text, parse_constant=_reject)
    except (ValueError, RecursionError):
        return text


def _reject(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity, which are no JSON


def parse_values(option: str, given: Sequence[str]) -> dict[str, Any]:
    """Return the values of an option that is given as NAME=VALUE. A name that is repeated makes a list.

    Raises:
        ConfigurationError: For one without a name or `=`, and for a text that is not UTF-8.
    """
    found: dict[str, Any] = {}
    for text in given:
        check_text(text, option)
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ConfigurationError(f"{option} is {show(text)}; it should be NAME=VALUE, such as title=x")
        parsed = parse_value(value)
        found[name] = [*_listed(found[name]), *_listed(parsed)] if name in found else parsed
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
