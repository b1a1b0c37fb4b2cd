"""For tests of programs that record triggers: nothing leaves the process, and recorded triggers can be read.

    from brockman.testing import capture

    with capture() as outbox:
        client.post("/checkout/")
    outbox.assert_recorded(action="ordered", times=1)

It applies to every client of the process, made before or inside the block. A trigger takes its usual way but for
the transport: it is checked, encoded, buffered, and delivered to the outbox before `record_trigger` returns. With
pytest, the fixture `focuslab_outbox` does this for a test.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, overload
from urllib.parse import unquote

from brockman.delivery.pipeline import Pipeline
from brockman.groups import Group, Member
from brockman.process import registry
from brockman.transport import Answer, Transport
from brockman.trigger.coerce import coerce_actor_id, coerce_mapping, coerce_text


@dataclass(frozen=True)
class RecordedTrigger:
    """A trigger as it would be sent; the fields have the names of the arguments of `record_trigger`.

    `id` is a UUID as text, `recorded_at` a time in UTC (RFC 3339).
    """

    actor_id: str
    action: str
    obj: str
    identities: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    recorded_at: str = ""


_FIELDS = {"object": "obj", "captured_identities": "identities", "captured_attributes": "attributes"}


class Outbox(Sequence[RecordedTrigger]):
    """The recorded triggers, oldest first. A transport that accepts everything.

    Attributes:
        groups: The members that `download_group` returns, by the name of a group, set by the test. `groups`
            returns groups of these names, and `save_group` adds an empty one.
    """

    def __init__(self) -> None:
        self.groups: dict[str, Sequence[Member]] = {}
        self._triggers: list[RecordedTrigger] = []

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        """Keep the triggers of a request."""
        content = json.loads(body)
        for wire in content if isinstance(content, list) else [content]:
            named = {_FIELDS.get(name, name): value for name, value in wire.items()}
            self._triggers.append(RecordedTrigger(**named))
        return Answer(201)

    def fetch(self, method: str, resource: str, body: bytes | None = None, timeout: float | None = None) -> Answer:
        """Answer a request for groups, as the API does."""
        name = unquote(resource.partition("?")[0].removeprefix("group/").removesuffix("/"))
        content: dict[str, Any] = {"groups": [_show_group(each) for each in self.groups]}
        if method == "PUT":
            self.groups.setdefault(name, ())
            content = {**_show_group(name), **json.loads(body or b"{}")}
        elif name and name not in self.groups:
            return Answer(404, b"set outbox.groups")
        elif name:
            content = {"members": [asdict(member) for member in self.groups[name]], "next": None}
        return Answer(200, json.dumps(content, default=datetime.isoformat).encode())

    def close(self) -> None:
        """Do nothing: the triggers stay readable."""

    def clear(self) -> None:
        """Remove all triggers. The groups stay."""
        self._triggers.clear()

    @overload
    def __getitem__(self, index: int) -> RecordedTrigger: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordedTrigger]: ...
    def __getitem__(self, index: int | slice) -> RecordedTrigger | list[RecordedTrigger]:
        return self._triggers[index]

    def __len__(self) -> int:
        return len(self._triggers)

    def find(self, **expected: Any) -> list[RecordedTrigger]:
        """Return the triggers that have these fields; a mapping must have at least these items.

        Values are compared as they are sent: `actor_id=7` finds "7", a `Decimal` the number, a model its key.

        Raises:
            TypeError: For an unknown field.
            InvalidTrigger: For a value that no trigger can have.
        """
        unknown = set(expected) - set(RecordedTrigger.__dataclass_fields__)
        if unknown:
            raise TypeError(f"a trigger has no {', '.join(sorted(unknown))}")
        fitted = {name: _fit(name, value) for name, value in expected.items()}
        return [trigger for trigger in self._triggers if _has(asdict(trigger), fitted)]

    def assert_recorded(self, *, times: int | None = None, **expected: Any) -> list[RecordedTrigger]:
        """Return what `find` does; fail when that is nothing, or not exactly `times` triggers.

        Raises:
            AssertionError: With what was recorded instead.
        """
        found = self.find(**expected)
        if len(found) == times or (found and times is None):
            return found
        recorded = (
            "\n".join(f"  {_shown(trigger)}" for trigger in self._triggers) or "  nothing (is `enabled` on?)"
        )
        wanted = ", ".join(f"{name}={value!r}" for name, value in expected.items()) or "any trigger"
        many = "at least once" if times is None else f"{times} times"
        raise AssertionError(
            f"{wanted} should be recorded {many}, not {len(found)} times; recorded was\n{recorded}"
        )


def _show_group(name: str) -> dict[str, Any]:
    return asdict(Group(name))


def _fit(name: str, value: Any) -> Any:
    if name == "actor_id":
        return coerce_actor_id(value)
    if name in ("action", "obj"):
        return coerce_text(value, name)
    return str(value) if name in ("id", "recorded_at") else coerce_mapping(value, name)


def _has(trigger: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    for name, value in expected.items():
        held = trigger[name]
        if not (value.items() <= held.items() if isinstance(held, Mapping) else value == held):
            return False
    return True


def _shown(trigger: RecordedTrigger) -> str:
    shown = {name: value for name, value in asdict(trigger).items() if value and name not in ("id", "recorded_at")}
    return ", ".join(f"{name}={value!r}" for name, value in shown.items())


class _Captured(Pipeline):
    """Replaces a pipeline: each trigger is delivered at once, in the caller's thread."""

    def __init__(self, original: Pipeline, transport: Transport) -> None:
        at_once = replace(original.options, max_batch_size=1)
        super().__init__(at_once, transport, key=original.key, spawn=_start_no_thread)
        self._original = original

    def replacement(self) -> Pipeline:
        return self._original.replacement()


def _start_no_thread(target: Callable[[], None]) -> None:
    raise RuntimeError("captured triggers are delivered in the caller's thread")


@contextmanager
def divert(transport: Transport, *, below: bool = False) -> Iterator[None]:
    """Make every client of the process deliver to a transport, at once, inside a block.

    What is buffered before the block is delivered first, for `shutdown_timeout` seconds at most. A child forked in
    the block does as its parent.

    Args:
        transport: Where the triggers go.
        below: Of nested blocks the innermost gets the triggers; True makes this one the outermost.
    """

    def substitute(original: Pipeline) -> Pipeline:
        return _Captured(original, transport)

    registry.substitutes.insert(0 if below else len(registry.substitutes), substitute)
    registry.restart_all()
    try:
        yield
    finally:
        registry.substitutes.remove(substitute)
        registry.restart_all()


@contextmanager
def capture() -> Iterator[Outbox]:
    """Make every client of the process deliver to a new outbox inside a block; see `divert`."""
    outbox = Outbox()
    with divert(outbox):
        yield outbox
