"""The facts in a trigger from which people are joined. No I/O."""

from __future__ import annotations

from hashlib import blake2b
from itertools import islice
from typing import NamedTuple

from brockman.collector import strict_json

MAX_NAME_CHARS = 200  # longer names of identities and attributes are left out
MAX_FACTS = 100  # identities, and attributes, of one trigger
# Values that programs send for want of one. In any case.
_PLACEHOLDERS = frozenset(
    ("", "null", "undefined", "unknown", "none", "nil", "nan", "0", "true", "false", "anonymous", "n/a")
)


class Identity(NamedTuple):
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


class Facts(NamedTuple):
    identities: list[tuple[str, str]]  # each element of a list is one
    attributes: list[tuple[str, str]]  # the value as JSON


def digest(*texts: str) -> bytes:
    """Return a key for texts of any length."""
    if len(texts) > 1:
        texts = (*(str(len(text)) for text in texts), *texts)
    return blake2b(" ".join(texts).encode(), digest_size=16).digest()


def read_facts(body: str) -> Facts:
    """Return the facts in a trigger's JSON; none for one that cannot be read."""
    facts = Facts([], [])
    try:
        trigger = strict_json.parse(body.encode())
    except ValueError:
        return facts
    if type(trigger) is not dict:
        return facts
    identities, attributes = trigger.get("captured_identities"), trigger.get("captured_attributes")
    if type(identities) is dict:
        for name, value in identities.items():
            if len(name) <= MAX_NAME_CHARS and value is not None:
                for single in islice(value, MAX_FACTS) if type(value) is list else (value,):
                    # 42 is equal to "42"
                    facts.identities.append((name, single if type(single) is str else strict_json.dump(single)))
    if type(attributes) is dict:
        for name, value in attributes.items():
            if len(name) <= MAX_NAME_CHARS and value is not None:
                facts.attributes.append((name, strict_json.dump(value)))
    return Facts(facts.identities[:MAX_FACTS], facts.attributes[:MAX_FACTS])


def make_identity(name: str, text: str) -> Identity:
    text = text.strip()
    return Identity(name, text.casefold() if "email" in name.lower() else text)
