"""Delivery in the caller's thread, where no worker thread can be started."""

from __future__ import annotations

import _thread
import gc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.transport import Answer
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY, law_holds, record, worker_threads
from tests.support.waiting import eventually


@contextmanager
def no_threads() -> Iterator[None]:
    """Let no thread be started for the length of a block."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", fail)
        yield


def test_record_flush_and_close_work_without_a_thread():
    """flush and close deliver in the caller's thread, and retry there."""
    transport = MemoryTransport([ConnectionFailed("refused")])
    client = FocusLabClient(api_key=KEY, transport=transport, backoff_base=0.001)
    with no_threads():
        record(client, 1)
        assert client.flush(10)
        record(client, 1, start=1)
        assert client.close(10)
    assert [trigger["variables"]["n"] for trigger in transport.triggers] == [0, 0, 1]


def test_an_error_of_the_transport_is_not_raised_to_the_caller(caplog):
    """record_trigger and flush log it and keep the triggers; a later flush delivers them."""
    replies = iter([KeyError("a fault"), KeyError("a fault")])

    def answer(body: bytes) -> Answer:
        failure = next(replies, None)
        if failure:
            raise failure
        return Answer(201)

    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(answer), max_batch_size=1)
    with no_threads():
        record(client, 1)  # a full batch: sent in this thread
        assert client.flush(10).pending == 1
        assert "KeyError" in caplog.text
        assert client.flush(10)
        assert (client.stats().delivered, law_holds(client, 1)) == (1, True)
        assert client.close(10)


def test_a_thread_is_started_as_soon_as_possible():
    """After a flush in the caller's thread, the interval is kept again."""
    client = FocusLabClient(api_key=KEY, transport=MemoryTransport(), flush_interval=0.05)
    with no_threads():
        record(client, 1)
        assert client.flush(10)
    record(client, 1)
    assert eventually(lambda: client.stats().delivered == 2)
    assert client.close(10)


def test_triggers_of_a_dropped_client_leave_when_a_thread_can_be_started_again(server):
    """No thread could be started while the client existed: its triggers do not wait for the end of the process."""
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.05)
    with no_threads():
        record(client, 1)
    del client
    gc.collect()
    server.wait_until(lambda s: len(s.triggers) == 1)
    assert eventually(lambda: worker_threads() == [])
