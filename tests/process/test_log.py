"""The log and handlers that record triggers, flush, close, block or fork themselves."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from brockman.client import FocusLabClient
from brockman.process import log_thread
from brockman.process.log import Log, say
from tests.support.programs import environment, ran_python
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

TIMEOUT, SOON = 30, 10  # seconds: of the flush in a handler, and how long nothing of ours may take


class Calling(logging.Handler):
    """Calls a function with each record of the brockman logger."""

    def __init__(self, call: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.call = call
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.call(record)

    @property
    def lines(self) -> list[str]:
        """The text of each record, once all are written."""
        assert log_thread.wait_until_written(SOON)
        return [record.getMessage() for record in self.records]


@pytest.fixture
def attach() -> Iterator[Callable[..., Calling]]:
    """A function that attaches a handler to the brockman logger, at level DEBUG."""
    log = logging.getLogger("brockman")
    attached: list[Calling] = []

    def attach(call: Callable[[logging.LogRecord], object] = lambda record: None) -> Calling:
        attached.append(Calling(call))
        log.addHandler(attached[-1])
        log.setLevel(logging.DEBUG)
        return attached[-1]

    yield attach
    for handler in attached:
        log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


HANDLER = f"""
import atexit, logging, logging.config, logging.handlers, sys, threading, time
from brockman.client import FocusLabClient

client = FocusLabClient(flush_interval=3600, shutdown_timeout={TIMEOUT})

class Tracking(logging.Handler):
    def emit(self, record):
        if record.name == "application":
            self.flush()

    def flush(self):
        if client.record_trigger("a handler", "flushed", "log"):
            client.flush({TIMEOUT})

    def close(self):
        client.record_trigger("a handler", "closed", "log")
        client.close({TIMEOUT})
        super().close()

def deliver_one():
    client.record_trigger("the program", "started", "log")
    assert client.flush({TIMEOUT})

log = logging.getLogger("brockman")
log.setLevel(logging.DEBUG)
handler = Tracking()
FAILED = logging.makeLogRecord({{"name": "application", "levelno": logging.ERROR}})
"""

WAYS = {
    "dictConfig": 'logging.config.dictConfig({"version": 1})',
    "shutdown": "logging.shutdown()",
    "basicConfig": "logging.basicConfig(force=True)",
    "an emit": 'logging.getLogger("application").error("failed"); handler.close()',
    "MemoryHandler": "logging.handlers.MemoryHandler(1, target=handler).handle(FAILED); handler.close()",
    "a lock that is held": "with logging._lock, handler.lock: handler.flush(); handler.close()",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_records_and_flushes_does_not_stop_logging(server: RecordingServer, way: str) -> None:
    """While `logging` holds its locks and calls `flush` and `close` of a handler, these deliver at once."""
    script = f"""{HANDLER}
{"log" if way in ("dictConfig", "shutdown") else "logging.getLogger()"}.addHandler(handler)
deliver_one()
started = time.monotonic()
{WAYS[way]}
print(time.monotonic() - started)
"""
    ended = ran_python(script, env=environment(FL_API_KEY="k", FL_ENDPOINT=server.endpoint))
    assert ended.status == 0, ended.err
    assert float(ended.out) < SOON
    called = {"closed"} if way == "basicConfig" else {"flushed", "closed"}
    assert {trigger["action"] for trigger in server.triggers} == {"started", *called}


def test_a_handler_that_records_and_flushes_does_not_delay_the_exit(server: RecordingServer) -> None:
    """Nor when `logging.shutdown` calls it after our last exit hook."""
    script = f"""
import atexit, time
atexit.register(lambda: print(time.monotonic() - started, flush=True))
{HANDLER}
log.addHandler(handler)
deliver_one()
started = time.monotonic()
"""
    ended = ran_python(script, env=environment(FL_API_KEY="k", FL_ENDPOINT=server.endpoint))
    assert ended.status == 0, ended.err
    assert float(ended.out) < SOON
    assert {trigger["action"] for trigger in server.triggers} == {"started", "flushed", "closed"}


BLOCKED = """
class Blocked(logging.Handler):
    def handle(self, record):  # outside the handler's lock, which `logging.shutdown` takes
        seen.append(record.getMessage())
        threading.Event().wait()

seen = []
log.addHandler(Blocked())
"""


def test_a_handler_that_blocks_for_ever_delays_no_delivery_and_no_exit(server: RecordingServer) -> None:
    """The worker delivers, `close` returns, and the process ends within its budget."""
    script = f"""
import atexit, time
atexit.register(lambda: print(time.monotonic() - started, seen, flush=True))
{HANDLER}
{BLOCKED}
other = FocusLabClient(flush_interval=0.01, shutdown_timeout=1)
for n in range(3):
    other.record_trigger("the program", "recorded", str(n))
    assert other.flush({TIMEOUT}), n
deliver_one()
assert client.close({TIMEOUT})
other.record_trigger("the program", "recorded", "last")
started = time.monotonic()
"""
    ended = ran_python(script, env=environment(FL_API_KEY="k", FL_ENDPOINT=server.endpoint))
    assert ended.status == 0, ended.err
    took, _, seen = ended.out.partition(" ")
    assert float(took) < 1 + SOON / 2
    assert seen.count("brockman: ") == 1, seen
    assert sorted(trigger["object"] for trigger in server.triggers) == ["0", "1", "2", "last", "log"]


def test_lines_that_a_slow_handler_has_no_time_for_at_exit_are_counted() -> None:
    """The process does not wait for each of them: the last line says how many are missing."""
    script = """
import logging, threading
from brockman.client import FocusLabClient
from brockman.process.log import say

class Slow(logging.Handler):
    def emit(self, record):
        threading.Event().wait(0.2)
        print(record.getMessage(), flush=True)

client = FocusLabClient(shutdown_timeout=0.5)
client.record_trigger("a", "viewed", "page")
logging.getLogger("brockman").addHandler(Slow())
for n in range(100):
    say(logging.WARNING, f"line {n}")
"""
    ended = ran_python(script, env=environment(FL_API_KEY="k", FL_ENABLED="0"))
    assert ended.status == 0, ended.err
    *lines, last = ended.out.splitlines()
    assert lines == [f"brockman: line {n}" for n in range(len(lines))]
    assert last == f"brockman: {100 - len(lines)} lines of the log were discarded: a handler of it takes long"


def test_lines_beyond_a_thousand_are_counted(attach: Callable[..., Calling]) -> None:
    """Behind a handler that blocks for a while: the oldest are discarded, and one line says how many."""
    released = threading.Event()
    handler = attach(lambda record: released.wait(SOON))
    for n in range(1500):
        say(logging.WARNING, f"line {n}")
    released.set()
    lines = handler.lines
    (found,) = [line for line in lines if "discarded" in line]
    assert found == f"brockman: {1501 - len(lines)} lines of the log were discarded: a handler of it takes long"
    assert lines[-1] == "brockman: line 1499"


@pytest.mark.parametrize("place", ["the program", "an exit hook", "a late exit hook"])
def test_the_line_about_what_is_lost_is_written_at_exit(server: RecordingServer, place: str) -> None:
    """Wherever it was recorded: the process waits until the line is written."""
    server.respond = lambda request: Reply(503)
    record = 'client.record_trigger("a", "viewed", "page")'
    script = f"""
import atexit
{f"atexit.register(lambda: {record})" if place == "a late exit hook" else ""}
import time, logging
from brockman.client import FocusLabClient

class Slow(logging.Handler):
    def emit(self, record):
        time.sleep(0.1)
        print(record.getMessage(), flush=True)

client = FocusLabClient(shutdown_timeout=0.5)
logging.getLogger("brockman").addHandler(Slow())
{f"atexit.register(lambda: {record})" if place == "an exit hook" else ""}
{record if place == "the program" else ""}
"""
    ended = ran_python(script, env=environment(FL_API_KEY="k", FL_ENDPOINT=server.endpoint))
    assert ended.status == 0, ended.err
    first, last = ended.out.splitlines()
    assert "is unavailable (status 503)" in first
    assert "closed with 1 trigger not delivered" in last


def test_lines_are_written_in_order(attach: Callable[..., Calling]) -> None:
    """Those of one thread; each once, whoever else logs."""
    handler = attach()

    def log(name: str) -> None:
        for number in range(100):
            say(logging.INFO, f"{name} {number}")

    threads = [threading.Thread(target=log, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handler.lines) == 300
    for name in "abc":
        own = [line for line in handler.lines if line.startswith(f"brockman: {name}")]
        assert own == [f"brockman: {name} {number}" for number in range(100)]


def test_a_handler_that_raises_costs_no_other_line(attach: Callable[..., Calling]) -> None:
    """Even one that would end a thread."""

    def fail(record: logging.LogRecord) -> None:
        raise SystemExit

    handler = attach(fail)
    say(logging.INFO, "one")
    say(logging.INFO, "two")
    assert handler.lines == ["brockman: one", "brockman: two"]


def test_a_line_below_the_level_is_not_written(attach: Callable[..., Calling]) -> None:
    """The levels of `logging` apply as everywhere: the logger's, its parent's, and `logging.disable`."""
    handler, log = attach(), logging.getLogger("brockman")
    log.setLevel(logging.WARNING)
    say(logging.INFO, "no")
    say(logging.WARNING, "yes")
    logging.disable(logging.WARNING)
    say(logging.WARNING, "no")
    say(logging.ERROR, "yes")
    logging.disable(logging.NOTSET)
    log.disabled = True
    say(logging.ERROR, "no")
    log.disabled = False
    assert handler.lines == ["brockman: yes", "brockman: yes"]


def test_what_a_handler_records_for_our_lines_is_not_sent(
    server: RecordingServer, make_client: Callable[..., FocusLabClient], attach: Callable[..., Calling]
) -> None:
    """One trigger is one trigger, although each send is a line at DEBUG, for which the handler records another.

    They are counted as `own_log`, whichever method is called, and whichever client.
    """
    client = make_client(flush_interval=0.01)
    other = make_client(flush_interval=0.02)
    encoded = client.encode_trigger("a", "was", "encoded before")
    answers: list[Any] = []

    def track(record: logging.LogRecord) -> None:
        answers.append(
            (
                client.record_trigger("a", "logged", record.getMessage()),
                other.record_trigger("a", "logged", record.getMessage()),
                client.encode_trigger("a", "logged", record.getMessage()),
                client.record_encoded(encoded),
                client.send_trigger("a", "logged", record.getMessage()),
                make_client(flush_interval=0.03).record_trigger("a", "logged", record.getMessage()),
            )
        )

    handler = attach(track)
    assert client.record_trigger("a", "viewed", "page")
    assert client.flush()
    assert [line.partition(",")[0] for line in handler.lines] == ["brockman: sent 1 trigger"]
    assert answers == [(False, False, None, False, None, False)]
    assert [client.stats().dropped, other.stats().dropped] == [{"own_log": 3}, {"own_log": 1}]
    assert client.record_trigger("a", "viewed", "another page")  # here it is taken
    assert client.flush()
    assert [trigger["object"] for trigger in server.triggers] == ["page", "another page"]


def test_other_threads_record_while_a_handler_is_at_work(
    server: RecordingServer, make_client: Callable[..., FocusLabClient], attach: Callable[..., Calling]
) -> None:
    """Only what the handler itself records is dropped."""
    client, released = make_client(), threading.Event()
    handler = attach(lambda record: released.wait(SOON))
    say(logging.INFO, "held")
    assert eventually(lambda: handler.records)
    assert client.record_trigger("a", "viewed", "page")
    assert client.flush(SOON)
    assert client.stats().dropped == {}
    released.set()
    assert len(server.triggers) == 1


def test_a_handler_may_flush_and_close(
    server: RecordingServer, make_client: Callable[..., FocusLabClient], attach: Callable[..., Calling]
) -> None:
    """It waits for the delivery, and the delivery does not wait for it."""
    client, results = make_client(flush_interval=3600), []
    client.record_trigger("a", "viewed", "page")
    handler = attach(lambda record: results.append(client.close(TIMEOUT)) if not results else None)
    say(logging.INFO, "close")
    assert handler.lines[0] == "brockman: close"
    assert [(result.delivered, result.pending) for result in results] == [(1, 0)]
    assert len(server.triggers) == 1


FORKS_IN = {"a handler": True, "another thread": False}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads
@pytest.mark.parametrize("in_handler", FORKS_IN.values(), ids=FORKS_IN)
def test_a_child_forked_while_a_line_is_written_logs_and_records(
    server: RecordingServer,
    make_client: Callable[..., FocusLabClient],
    attach: Callable[..., Calling],
    in_handler: bool,
) -> None:
    """It takes neither the parent's lines nor its silence, and the parent goes on."""
    client, parent = make_client(), os.getpid()
    children: list[int] = []
    handling, released = threading.Event(), threading.Event()

    def work(record: logging.LogRecord) -> None:
        if os.getpid() == parent and "first" in record.getMessage():
            if in_handler:
                fork()
            handling.set()
            released.wait(SOON)

    def fork() -> None:
        children.append(os.fork())
        if not children[-1]:
            status = 1
            try:
                say(logging.INFO, "of the child")
                recorded = client.record_trigger("a child", "viewed", "page") and client.flush(SOON)
                lines = [line for line in handler.lines if "sent" not in line]
                status = 0 if recorded and lines == ["brockman: first", "brockman: of the child"] else 2
            finally:
                os._exit(status)

    handler = attach(work)
    say(logging.INFO, "first")
    say(logging.INFO, "second")
    assert handling.wait(SOON)
    if not in_handler:
        fork()
    released.set()
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert handler.lines == ["brockman: first", "brockman: second"]
    assert [trigger["actor_id"] for trigger in server.triggers] == ["a child"]


def test_an_event_counts_the_lines_that_it_skips(attach: Callable[..., Calling]) -> None:
    """At most one line a minute of each subject, and the next one says how many there were."""
    handler, now = attach(), [0.0]
    log = Log(lambda: now[0])
    for _ in range(3):
        log.event("subject", logging.INFO, "happened")
    now[0] = 60.0
    log.event("subject", logging.INFO, "happened")
    assert handler.lines == [
        "brockman: happened",
        "brockman: happened (and 2 times more since the last such line)",
    ]
