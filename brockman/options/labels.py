"""The setting `variables`: a mapping, or the text of one in the environment. No I/O."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Scalar = str | int | float | bool
_EXPECTED = (
    "a dict from str to str, int, float or bool; in the environment `name=value,name=value` or a JSON object"
)


def labels(value: Any) -> Mapping[str, Scalar] | None:
    """Return the variables that every trigger has, as a mapping that cannot be changed; None for none.

    Raises:
        ValueError: With what would be right.
    """
    if isinstance(value, str):
        value = _parse(value)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError(_EXPECTED)
    found = dict(value)
    for name, item in found.items():
        is_number = isinstance(item, float) and not math.isfinite(item)
        if not isinstance(name, str) or not name or not isinstance(item, Scalar) or is_number:
            raise ValueError(_EXPECTED)
    return MappingProxyType(found) if found else None


def _parse(text: str) -> Any:
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError:
            raise ValueError(_EXPECTED) from None
    pairs = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        name, is_pair, value = pair.partition("=")
        if not is_pair:
            raise ValueError(_EXPECTED)
        pairs[name.strip()] = value.strip()
    return pairs
