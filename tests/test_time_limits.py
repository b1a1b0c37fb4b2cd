"""Exceptions of others that strike while a caller is inside brockman: they reach the caller, and the law holds."""

from __future__ import annotations

import ctypes
import enum
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import InvalidTrigger
from brockman.transport.memory import MemoryTransport
from tests.support.client import law_holds

Make = Callable[..., FocusLabClient]


class TimeLimit(Exception):
    """As rq's JobTimeoutException and Celery's SoftTimeLimitExceeded: a plain exception."""


@contextmanager
def time_limit(seconds: float, error: Exception) -> Iterator[None]:
    """Raise an error after some time in the main thread, as rq and Celery do."""

    def strike(number: int, frame: object) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def spin(*arguments: Any) -> Any:
    """Work until an exception strikes, for ten seconds at most."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        pass
    return {}


def nap(*arguments: Any) -> Any:
    """Sleep until an exception strikes."""
    time.sleep(10)
    return {}


def make_places(work: Callable[..., Any]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return, by name, options of a client and arguments of a trigger that run foreign code."""

    class Slow(Mapping[str, Any]):
        __getitem__ = __iter__ = __len__ = items = work

    class SlowList(list[Any]):
        __iter__ = work  # type: ignore[assignment]

    class Member(enum.Enum):
        A = 1
        value = property(work)

    return {
        "items()": ({}, {"variables": Slow()}),
        "a list": ({}, {"variables": {"x": SlowList([1])}}),
        "a property": ({}, {"actor_id": Member.A}),
        "before_record": ({"before_record": work}, {}),
        "on_drop": ({"on_drop": work, "enabled": False}, {}),
        "on_drop of an invalid trigger": ({"on_drop": work, "on_invalid": "drop"}, {"action": ""}),
    }


PLACES = list(make_places(spin))
ERRORS = [TimeLimit("over"), TimeoutError("over"), ValueError("over"), RuntimeError("over"), TypeError("over")]


def make_one(make_client: Make, place: str, work: Callable[..., Any]) -> FocusLabClient:
    """Return a client for a place."""
    return make_client(transport=MemoryTransport(), **make_places(work)[place][0])


@pytest.mark.parametrize("work", [spin, nap])
@pytest.mark.parametrize("place", PLACES)
def test_a_time_limit_reaches_the_caller(make_client: Make, place: str, work: Callable[..., Any]) -> None:
    """Raised by a signal handler inside foreign code, whatever its class: it is no mistake of the caller's."""
    client = make_one(make_client, place, work)
    arguments = {"actor_id": "7", "action": "viewed", "obj": "page", **make_places(work)[place][1]}
    for error in ERRORS:
        with pytest.raises(type(error), match="over") as caught, time_limit(0.01, error):
            client.record_trigger(**arguments)
        assert caught.value is error
    dropped = len(ERRORS) if place.startswith("on_drop") else 0
    assert sum(client.stats().dropped.values()) == dropped
    assert law_holds(client, dropped)


@pytest.mark.parametrize("place", PLACES)
def test_a_time_limit_from_another_thread_reaches_the_caller(make_client: Make, place: str) -> None:
    """As rq has it where no signal can be used: no frame of a handler, and no statement that raises."""
    client = make_one(make_client, place, spin)
    arguments = {"actor_id": "7", "action": "viewed", "obj": "page", **make_places(spin)[place][1]}
    thread = ctypes.c_ulong(threading.get_ident())

    def strike() -> None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeLimit))

    timer = threading.Timer(0.05, strike)
    timer.start()
    with pytest.raises(TimeLimit):
        client.record_trigger(**arguments)
    timer.join()


@pytest.mark.parametrize("error", [RecursionError])
@pytest.mark.parametrize("place", PLACES)
def test_errors_of_the_interpreter_reach_the_caller(make_client: Make, place: str, error: type[Exception]) -> None:
    """They say nothing about the trigger."""

    def fail(*arguments: Any) -> None:
        raise error("of the interpreter")

    client = make_one(make_client, place, fail)
    arguments = {"actor_id": "7", "action": "viewed", "obj": "page", **make_places(fail)[place][1]}
    with pytest.raises(error, match="of the interpreter"):
        client.record_trigger(**arguments)


@pytest.mark.parametrize("place", PLACES)
def test_errors_of_foreign_code_do_not(make_client: Make, place: str) -> None:
    """Raised by a statement, by C code, or out of an inner call: data is invalid, and a callback has failed."""
    for fail in (lambda *arguments: [][0], lambda *arguments: int("x"), _raise_own, lambda *a: _raise_own(a)):
        client = make_one(make_client, place, fail)
        arguments = {"actor_id": "7", "action": "viewed", "obj": "page", **make_places(fail)[place][1]}
        if "on_drop" in place or place == "before_record":
            assert client.record_trigger(**arguments) is False
        else:
            with pytest.raises(InvalidTrigger, match="raised"):
                client.record_trigger(**arguments)
        client.close(0.2)


def _raise_own(*arguments: Any) -> None:
    raise TimeLimit("of the foreign code itself")


class Slowly(dict[str, Any]):
    """A mapping that takes some time in Python."""

    def items(self) -> Any:
        for number in range(20):
            yield f"x{number}", number


# A strike in a callback of the garbage collector passes nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_law_holds_wherever_a_time_limit_strikes(make_client: Make) -> None:
    """Two hundred times at any place: what the caller saw as recorded, and what passed on, is what was counted."""
    seen: list[str] = []
    client = make_client(
        transport=MemoryTransport(),
        before_record=lambda trigger: trigger,
        on_drop=lambda reason, body: seen.append(reason),
        on_invalid="drop",
    )
    struck = 0
    for number in range(200):
        try:
            with time_limit(0.000_05 + (number % 40) * 0.000_01, TimeLimit("over")):
                for _ in range(10_000):  # a strike may be lost where Python calls back from C, as a finalizer
                    assert client.record_trigger("7", "viewed", "page", variables=Slowly(a=1))
                    client.record_trigger("7", "", "page")
        except TimeLimit:
            struck += 1
    assert struck > 150
    assert client.flush(20)
    stats = client.stats()
    assert set(stats.dropped) <= {"invalid"}
    assert stats.recorded == stats.delivered + stats.dropped.get("invalid", 0)
    assert law_holds(client, stats.recorded)
