"""Batches of what threads send at the same time, and exceptions in the middle of one."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from brockman.celery.confirm import Batcher
from tests.support.waiting import eventually

BODIES = [b"%d" % number for number in range(20)]


class Sender:
    """Sends when the gate is released; the result of each trigger is its own text."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.gate = threading.Semaphore(0)
        self.error: BaseException | None = None

    def __call__(self, bodies: Sequence[bytes]) -> list[str]:
        self.batches.append(list(bodies))
        assert self.gate.acquire(timeout=20)
        error, self.error = self.error, None
        if error is not None:
            raise error
        return [body.decode() for body in bodies]


@pytest.fixture
def sender() -> Sender:
    return Sender()


def make(sender: Sender, **limits: int) -> Batcher[str]:
    return Batcher(sender, "interrupted", **{"max_count": 500, "max_bytes": 10_000, **limits})


def waiting(batcher: Batcher[str], count: int) -> bool:
    """Return whether `count` threads come to wait."""
    return eventually(lambda: batcher.waiting == count)


def test_waiting_triggers_are_sent_together(sender: Sender) -> None:
    """The first is sent alone, the others after it, within the limits; each thread gets its own result."""
    batcher = make(sender, max_count=10)
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(batcher.send, BODIES[0])
        assert eventually(lambda: len(sender.batches) == 1)
        rest = [threads.submit(batcher.send, body) for body in BODIES[1:]]
        assert waiting(batcher, 19)
        sender.gate.release(3)
        assert [future.result(20) for future in (first, *rest)] == [body.decode() for body in BODIES]
    assert [len(batch) for batch in sender.batches] == [1, 10, 9]


def test_an_exception_interrupts_the_leader(sender: Sender) -> None:
    """It alone raises; the others of its batch get `interrupted`; those that wait are sent."""
    batcher = make(sender)
    with ThreadPoolExecutor(20) as threads:
        first = threads.submit(batcher.send, b"first")
        assert eventually(lambda: len(sender.batches) == 1)
        rest = [threads.submit(batcher.send, body) for body in BODIES[:5]]
        assert waiting(batcher, 5)
        sender.gate.release()
        assert first.result(20) == "first"
        assert eventually(lambda: len(sender.batches) == 2)
        later = [threads.submit(batcher.send, body) for body in BODIES[5:8]]
        assert waiting(batcher, 3)
        sender.error = KeyboardInterrupt()
        sender.gate.release(2)
        errors = [future.exception(20) for future in rest]
        assert sum(isinstance(error, KeyboardInterrupt) for error in errors) == 1
        assert {future.result() for future, error in zip(rest, errors, strict=True) if error is None} == {
            "interrupted"
        }
        assert [future.result(20) for future in later] == ["5", "6", "7"]


def test_an_exception_leaves_the_batcher_usable(sender: Sender) -> None:
    """The next trigger is sent."""
    batcher = make(sender)
    sender.error = SystemExit()
    sender.gate.release(2)
    with pytest.raises(SystemExit):
        batcher.send(b"1")
    assert batcher.send(b"2") == "2"


# Four greenlets: one sends and three wait, of which a time limit interrupts the first.
LIMITED = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from brockman.celery.confirm import Batcher

sent = []

def send(bodies):
    sent.append(list(bodies))
    time.sleep(0.2)
    return bodies

batcher = Batcher(send, b"interrupted", max_count=500, max_bytes=1000)

def limited():
    with gevent.Timeout(0.05, False):
        batcher.send(b"limited")

greenlets = [gevent.spawn(batcher.send, b"1"), gevent.spawn(limited)]
greenlets += [gevent.spawn(batcher.send, body) for body in (b"2", b"3")]
gevent.joinall(greenlets, timeout=20, raise_error=True)
assert [greenlet.value for greenlet in greenlets] == [b"1", None, b"2", b"3"], greenlets
assert sent == [[b"1"], [b"2", b"3"]], sent
"""


def test_a_time_limit_interrupts_one_that_waits() -> None:
    """It leaves the queue, and the others are sent."""
    pytest.importorskip("gevent")
    subprocess.run([sys.executable, "-c", LIMITED], check=True, timeout=60)
