"""An exception of a signal handler, such as the time limit of a task, reaches the caller wherever it strikes."""

from __future__ import annotations

import contextlib
import random
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brockman.exceptions import InvalidTrigger
from tests.support.client import law_holds, record
from tests.support.server import Reply, silence

LIMITS = [Exception, ValueError, TypeError, RuntimeError, TimeoutError, MemoryError, KeyError]


@pytest.fixture(params=LIMITS, ids=lambda kind: kind.__name__)
def limit(request: pytest.FixtureRequest) -> Iterator[type[Exception]]:
    """A class of exception that the handler of SIGALRM raises."""

    class TimeLimit(request.param):
        pass

    def strike(signum: int, frame: object) -> None:
        raise TimeLimit("the time is over")

    before = signal.signal(signal.SIGALRM, strike)
    yield TimeLimit
    signal.signal(signal.SIGALRM, before)


def strike(*_: object) -> Any:
    signal.raise_signal(signal.SIGALRM)


class Items(dict):
    def items(self) -> Any:
        return strike()


class Listed(list):
    def __iter__(self) -> Any:
        return strike()


class Late:
    """A handler that is an object, and takes any positional arguments."""

    def __call__(self, *arguments: object) -> None:
        raise InterruptedError("the time is over")


def test_a_time_limit_within_an_argument_reaches_the_caller(make_client, limit):
    """It is no mistake in the argument."""
    client = make_client()
    for value in (Items(), {"a": Listed([1])}):
        with pytest.raises(limit):
            client.record_trigger("1", "viewed", "page", variables=value)
        with pytest.raises(limit):
            client.encode_trigger("1", "viewed", "page", variables=value)
    assert law_holds(client, 0)


def test_a_time_limit_within_before_record_reaches_the_caller(make_client, limit):
    """The trigger is not recorded."""
    client = make_client(before_record=strike)
    with pytest.raises(limit):
        client.record_trigger("1", "viewed", "page")
    assert law_holds(client, 0)


def test_a_time_limit_within_on_drop_reaches_the_caller(make_client, server, limit):
    """The trigger is counted as dropped."""
    client = make_client(on_drop=strike, max_queue_size=1, flush_interval=60)
    record(client, 1)
    with pytest.raises(limit):
        record(client, 1)
    assert client.stats().dropped == {"overflow": 1}
    assert law_holds(client, 2)
    assert client.flush(20)  # or the end of the test would drop the other, and strike again


@pytest.mark.parametrize("handler", [Late(), Late().__call__], ids=["an object", "a method"])
def test_every_kind_of_handler_is_known(make_client, handler):
    """A function, a method, an object that is called, with any names of arguments."""
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with pytest.raises(InterruptedError):
            make_client(before_record=strike).record_trigger("1", "viewed", "page")
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_error_of_the_hook_itself_is_still_a_dropped_trigger(make_client):
    """Whatever its class is: it is not raised by a signal handler."""
    for kind in (*LIMITS, SystemError):

        def fail(arguments: object, kind: type[Exception] = kind) -> Any:
            raise kind

        client = make_client(before_record=fail)
        assert not client.record_trigger("1", "viewed", "page")
        assert client.stats().dropped == {"hook_failed": 1}


def test_a_stack_without_room_is_no_mistake_in_an_argument(make_client):
    """RecursionError reaches the caller at any depth; what was recorded is counted."""
    client = make_client()
    recorded = raised = 0

    def dive(call: Callable[[], object]) -> None:
        nonlocal recorded, raised
        try:
            dive(call)
        except RecursionError:
            try:
                call()
                recorded += 1
            except RecursionError:
                raised += 1
                raise

    with contextlib.suppress(RecursionError):
        dive(lambda: client.record_trigger("1", "viewed", ["page"][0], variables={"a": (1, 2)}))
    assert raised > 0
    assert law_holds(client, recorded)


# A strike in a callback of the garbage collector, which Hypothesis has, passes nobody.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_time_limit_at_any_moment_keeps_the_law(make_client, limit):
    """Of calls that a limit strikes at random, each trigger is recorded or not, and none is invalid."""
    client = make_client(before_record=lambda arguments: arguments)
    draw = random.Random(1)
    recorded = struck = 0
    for _ in range(300):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.random() * 2e-4 + 1e-6)
                for n in range(40):
                    client.record_trigger("1", "viewed", "page", variables={"n": (n,), "m": list(range(20))})
                    recorded += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except InvalidTrigger:
            pytest.fail("a time limit became an InvalidTrigger")
        except limit:
            struck += 1
    stats = client.stats()
    assert struck > 10
    assert stats.dropped == {}
    assert recorded <= stats.recorded <= recorded + struck
    assert client.flush(20)


def test_frames_of_other_code_are_not_taken_for_a_handler(make_client):
    """A value whose code raises deep within is a mistake in the argument."""

    class Deep(dict):
        def items(self) -> Any:
            caller = sys._getframe(0)
            return self.fail(caller.f_lineno)

        def fail(self, line: int) -> Any:
            raise ValueError(line)

    with pytest.raises(InvalidTrigger, match="variables: reading it raised ValueError"):
        make_client().record_trigger("1", "viewed", "page", variables=Deep())


def test_a_time_limit_within_a_send_reaches_the_caller(make_client, server, limit):
    """Whatever urllib3 makes of it on its way: a limit may be a TimeoutError too."""
    server.respond = lambda request: Reply(act=silence)
    client = make_client(flush_interval=60)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    with pytest.raises(limit):
        client.send_trigger("1", "viewed", "page")
