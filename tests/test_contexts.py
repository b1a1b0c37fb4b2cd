"""`brockman.context`: what a trigger leaves out is filled in from where it is recorded."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import sys
import threading
import uuid
from typing import Any

import pytest

import brockman
from brockman import contexts
from brockman.exceptions import InvalidTrigger, NoRequest
from brockman.testing import capture


@pytest.fixture
def outbox():
    with capture() as outbox:
        yield outbox


@pytest.fixture
def client(make_client):
    return make_client()


def actors(outbox) -> list[str]:
    return [trigger.actor_id for trigger in outbox]


def record(client, **arguments: Any) -> bool:
    return client.record_trigger(action="viewed", obj="book", **arguments)


def test_a_trigger_has_the_actor_and_the_values_around_it(client, outbox):
    """The innermost block wins, key by key, and what the call gives wins over all."""
    with (
        brockman.context(42, {"email": "ada@example.com"}, {"plan": "pro"}, {"tenant": "acme", "page": 1}),
        brockman.context(attributes={"team": "a"}, variables={"page": 2}),
    ):
        assert record(client, variables={"title": "Queues", "tenant": "other"})
    (trigger,) = outbox
    assert trigger.actor_id == "42"
    assert trigger.identities == {"email": "ada@example.com"}
    assert trigger.attributes == {"plan": "pro", "team": "a"}
    assert trigger.variables == {"tenant": "other", "page": 2, "title": "Queues"}


def test_an_actor_of_its_own_wins(client, outbox):
    """A block around another one, and an actor that is given, are what they are."""
    with brockman.context(1):
        with brockman.context(2):
            record(client)
        record(client)
        record(client, actor_id=3)
        client.record_trigger(4, "viewed", "book")
    assert actors(outbox) == ["2", "1", "3", "4"]


def test_another_actor_gets_the_variables_only(client, outbox):
    """Identities and attributes of one actor would make the collector take the two for one person."""
    with brockman.context(1, {"email": "ada@example.com"}, {"plan": "pro"}, {"tenant": "acme"}):
        record(client, actor_id="1")
        record(client, actor_id=2)
        with brockman.context(2, attributes={"plan": "free"}):
            record(client)
        with brockman.context(uuid.UUID(int=1)), brockman.context(str(uuid.UUID(int=1)), {"email": "b"}):
            record(client)
        with brockman.context(attributes={"team": "a"}):
            record(client)
    with brockman.context(attributes={"team": "a"}), brockman.context(3):
        record(client)
    assert [(one.actor_id, one.identities, one.attributes) for one in outbox] == [
        ("1", {"email": "ada@example.com"}, {"plan": "pro"}),
        ("2", {}, {}),
        ("2", {}, {"plan": "free"}),
        (str(uuid.UUID(int=1)), {"email": "b"}, {}),
        ("1", {"email": "ada@example.com"}, {"plan": "pro", "team": "a"}),
        ("3", {}, {"team": "a"}),
    ]
    assert all(one.variables["tenant"] == "acme" for one in outbox[:5])


def test_all_ways_of_recording_take_it(client, outbox, server):
    """`encode_trigger` captures it now, `send_trigger` sends it."""
    with brockman.context("ada"):
        body = client.encode_trigger(action="viewed", obj="book")
        client.send_trigger(action="viewed", obj="book")
    assert json.loads(body)["actor_id"] == "ada"
    assert actors(outbox) == ["ada"]


def test_without_a_context_an_actor_is_required(client):
    """The message says where it may be left out."""
    with pytest.raises(InvalidTrigger, match=r"actor_id: None .*`brockman\.context`"):
        record(client)
    with brockman.context(variables={"page": 1}), pytest.raises(InvalidTrigger, match="actor_id: None"):
        record(client)


def test_a_block_ends_with_an_exception_too(client, outbox):
    """Nothing is left behind."""
    with pytest.raises(KeyError), brockman.context(1):
        raise KeyError
    assert contexts.get() is None


def holding(actor: int):
    """Open a block around what is between the steps of a generator, which cannot close it in order."""
    with brockman.context(actor):
        yield
        yield


def test_a_block_that_a_suspended_generator_keeps_open_outlives_no_other() -> None:
    """Neither the block around it, nor the end of both: in a thread of a server it would be the next visitor's."""
    with brockman.context(1):
        suspended = holding(2)
        next(suspended)
    assert contexts.get() is None
    suspended.close()
    assert contexts.get() is None
    assert len(list(zip(holding(1), holding(2), strict=True))) == 2
    assert contexts.get() is None


def test_what_ends_in_another_context_changes_nothing_there() -> None:
    """The garbage collector may end a generator of one visitor while another one's request is handled."""

    def handle():
        with contexts.entered(contexts.Context(actor_id="first")):
            yield

    suspended = handle()
    contextvars.copy_context().run(next, suspended)
    second = contexts.Context(actor_id="second")
    with contexts.entered(second):
        suspended.close()
        assert contexts.get() is second
    assert contexts.get() is None


def test_what_is_changed_afterwards_changes_nothing(client, outbox):
    """The values are those of the beginning of the block, lists included."""
    variables: dict[str, Any] = {"tags": ["a"]}
    with brockman.context(1, variables=variables):
        variables["tags"].append("b")
        variables["more"] = 1
        record(client)
    assert outbox[0].variables == {"tags": ["a"]}


def test_a_wrong_value_is_reported_by_the_trigger(client, outbox):
    """The block raises nothing: the trigger is refused as if it had been given the value."""
    with brockman.context(1, variables={"page": object()}):  # type: ignore[dict-item]
        with pytest.raises(InvalidTrigger, match=r"variables\['page'\]"):
            record(client)
        assert record(client, variables={"page": 2})
    with brockman.context(1, variables=7), pytest.raises(InvalidTrigger, match="variables: 7"):  # type: ignore[arg-type]
        record(client)


def test_it_decorates_functions_coroutines_and_generators(client, outbox):
    """They stay what they are, and between the steps of a generator its context is not there."""
    block = brockman.context(1)

    @block
    def function() -> bool:
        return record(client)

    @block
    async def coroutine() -> bool:
        await asyncio.sleep(0)
        return record(client)

    @block
    def generator():
        received = yield record(client)
        yield (received, record(client))

    @block
    async def async_generator():
        yield record(client)
        await asyncio.sleep(0)
        yield record(client)

    class Views:
        @block
        @staticmethod
        def static() -> bool:
            return record(client)

    async def run() -> None:
        assert await coroutine()
        async for done in async_generator():
            assert done
            assert contexts.get() is None

    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert function()
    assert Views.static()
    steps = generator()
    assert next(steps)
    assert contexts.get() is None
    assert steps.send("given") == ("given", True)
    asyncio.run(run())
    assert actors(outbox) == ["1"] * 7


def test_what_copies_the_context_sees_what_was_there_when_it_was_copied(client, outbox):
    """Tasks of asyncio, `asyncio.to_thread`, and threads that run in a copy; other threads see nothing."""

    async def later(gate: asyncio.Event) -> None:
        await gate.wait()
        record(client)

    async def run() -> None:
        gate = asyncio.Event()
        async with brockman.context("first"):
            task = asyncio.create_task(later(gate))
            await asyncio.to_thread(record, client)
        async with brockman.context("second"):
            gate.set()
            await task
            record(client)

    asyncio.run(run())
    seen: list[object] = []
    with brockman.context("third"):
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=copied.run, args=(record, client)),
            threading.Thread(target=lambda: seen.append(contexts.get())),
        ]
    for thread in threads:
        thread.start()
        thread.join()
    assert actors(outbox) == ["first", "first", "second", "third"]
    if not getattr(sys.flags, "thread_inherit_context", False):  # as free-threaded builds have it
        assert seen == [None]


def test_two_tasks_at_once_never_mix(client, outbox):
    """Each has its own actor, in one block object that both share too."""
    shared = brockman.context(variables={"shared": True})

    async def visit(actor: int) -> None:
        async with brockman.context(actor):
            for _ in range(20):
                with shared:
                    await asyncio.sleep(0)
                    record(client, variables={"actor": actor})

    async def run() -> None:
        await asyncio.gather(*(visit(actor) for actor in range(1, 6)))

    asyncio.run(run())
    assert len(outbox) == 100
    assert all(one.actor_id == str(one.variables["actor"]) for one in outbox)
    assert contexts.get() is None


def test_the_defaults_of_a_process_are_below_every_context(make_client, outbox):
    """`variables`, `release` and `environment` of the client; the context and the trigger win."""
    client = make_client(
        variables={"region": "eu", "page": 0, "tenant": "none"}, release="1.4", environment="test"
    )
    with brockman.context(1, variables={"tenant": "acme"}):
        record(client, variables={"page": 2})
    assert outbox[0].variables == {
        "region": "eu",
        "page": 2,
        "tenant": "acme",
        "release": "1.4",
        "environment": "test",
    }


def test_a_message_carries_it(client, outbox):
    """As JSON; what another process cannot read is left out there."""
    assert contexts.pack() is None
    with brockman.context(42, variables={"tenant": "acme", "wrong": object()}):  # type: ignore[dict-item]
        message = json.loads(json.dumps(contexts.pack()))
    assert message == {"actor_id": "42", "variables": {"tenant": "acme"}}
    with contexts.entered(contexts.unpack(message)):
        record(client)
    assert actors(outbox) == ["42"]
    assert contexts.get() is None


@pytest.mark.parametrize(
    "message", [None, 7, "text", [], {"actor_id": []}, {"variables": {"a": {"b": 1}}}, {"identities": 3}], ids=str
)
def test_a_message_may_hold_anything(message):
    """It raises nothing: left out is what is no part of a context."""
    assert contexts.unpack(message) == contexts.Context()


def test_there_is_no_tracker_outside_of_a_request():
    """The error says what is missing."""
    with pytest.raises(NoRequest, match="no request is handled here"):
        brockman.current()
    with brockman.context(1), pytest.raises(LookupError):
        brockman.current()


def test_a_mistake_raises_nothing_where_it_must_not(make_client, outbox):
    """In a request in production it is dropped and counted; `on_invalid` decides when it is given."""
    client = make_client()
    with contexts.entered(contexts.Context(actor_id=1, is_safe=True)):
        assert not record(client, variables={"page": object()})
        with brockman.context(2):
            assert not client.record_trigger(action=None, obj="book")
        with pytest.raises(InvalidTrigger):
            make_client(on_invalid="raise").record_trigger(action="", obj="book")
    assert client.stats().dropped == {"invalid": 2}
