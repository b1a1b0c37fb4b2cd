"""The facts in a trigger from which people are joined. No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import islice
from typing import Any

from brockman.collector import strict_json

MAX_NAME_CHARS = 200  # longer names of identities and attributes are left out
MAX_FACTS = 100  # identities, and attributes, of one trigger
# Values that programs send for want of one. In any case.
_PLACEHOLDERS = frozenset(
    ("", "null", "undefined", "unknown", "none", "nil", "nan", "0", "true", "false", "anonymous", "n/a")
)


@dataclass(frozen=True, slots=True)
class Identity:
    """A name and a value, as they are compared: two that mean the same are equal."""

    name: str
    value: str

    @property
    def may_join(self) -> bool:
        """False for a placeholder."""
        return self.value.lower() not in _PLACEHOLDERS

    @property
    def digest(self) -> bytes:
        return digest(self.name, self.value)


@dataclass(frozen=True, slots=True)
class Facts:
    identities: list[Identity] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)  # the value as JSON


NONE = Facts()


def digest(*texts: str) -> bytes:
    """Return a key for texts of any length."""
    if len(texts) > 1:
        texts = (*(str(len(text)) for text in texts), *texts)
    return blake2b(" ".join(texts).encode(), digest_size=16).digest()


def read_facts(body: str) -> Facts:
    """Return the facts in a trigger's JSON; none for one that cannot be read."""
    if '"captured_' not in body:
        return NONE
    try:
        trigger = strict_json.parse(body.encode())
    except ValueError:
        return NONE
    if type(trigger) is not dict:
        return NONE
    identities = (
        make_identity(name, single)
        for name, value in _items(trigger.get("captured_identities"))
        for single in (value if type(value) is list else (value,))
    )
    attributes = _items(trigger.get("captured_attributes"))
    return Facts(
        list(islice(identities, MAX_FACTS)),
        {name: strict_json.dump(value) for name, value in islice(attributes, MAX_FACTS)},
    )


def make_identity(name: str, value: Any) -> Identity:
    text = value if type(value) is str else strict_json.dump(value)  # 42 is equal to "42"
    text = text.strip()
    return Identity(name, text.casefold() if "email" in name.lower() else text)


def _items(mapping: Any) -> Iterator[tuple[str, Any]]:
    if type(mapping) is dict:
        for name, value in mapping.items():
            if len(name) <= MAX_NAME_CHARS and value is not None:
                yield name, value
