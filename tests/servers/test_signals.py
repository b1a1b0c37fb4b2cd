"""Signals: SIGTERM with handle_sigterm, Ctrl-C, and processes that are stopped for a while."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_exact, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer, Reply, Request, silence
from tests.support.waiting import eventually

BEGIN = f"""
import asyncio, faulthandler, random, signal, sys, threading, time
{RECORDING}
faulthandler.register(signal.SIGALRM, chain=True)  # a process that hangs says where, and ends
signal.alarm(90)

def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")  # one piece: the log goes to the same pipe
    sys.stdout.flush()
"""


def start(
    folder: Path, server: RecordingServer, script: str, begin: str = BEGIN
) -> AbstractContextManager[Program]:
    """Run a script for the length of a block."""
    (folder / "script.py").write_text(begin + script)
    return running([sys.executable, "script.py"], folder, server)


def wait_for_output(program: Program, word: str) -> None:
    """Wait until a text is in the output of a program."""
    assert eventually(lambda: word in program.text(), 40), program.text()


def wait_until_stopped(program: Program) -> None:
    """Wait until SIGSTOP has stopped a program."""
    options = os.WSTOPPED | os.WNOHANG
    assert eventually(lambda: os.waitid(os.P_PID, program.process.pid, options) is not None, 40), program.text()


HOLDING_5000 = """
client = FocusLabClient(handle_sigterm=True, flush_interval=60, max_batch_size=10_000, max_batch_bytes=10**7,
                        shutdown_timeout=30)
for n in range(5000):
    record(client, n)
say("holds", client.stats().queued)
while True:
    signal.pause()
"""


def test_sigterm_delivers_and_ends_the_process(server, tmp_path):
    """With handle_sigterm=True, 5000 waiting triggers are delivered, and the exit status is that of SIGTERM."""
    with start(tmp_path, server, HOLDING_5000) as program:
        wait_for_output(program, "holds 5000")
        assert server.requests == []
        assert program.stop() == -signal.SIGTERM, program.text()
    assert_exact(program, server, at_least=5000)


def test_the_previous_handler_is_called_after_delivery(server, tmp_path):
    """Nothing waits when it is called, and its exit status stays."""
    handler = """
def handler(number, frame):
    say("handler", number, client.stats().delivered, client.stats().queued)
    sys.exit(7)

signal.signal(signal.SIGTERM, handler)
"""
    with start(tmp_path, server, handler + HOLDING_5000) as program:
        wait_for_output(program, "holds 5000")
        assert program.stop() == 7, program.text()
    assert "handler 15 5000 0" in program.text()
    assert_exact(program, server, at_least=5000)


def test_many_sigterms_get_one_deadline(server: RecordingServer, tmp_path) -> None:
    """A second SIGTERM during the close of the first does not restart the time limit."""
    server.respond = lambda request: Reply(503)
    script = f"""
import signal, time
{RECORDING}
client = FocusLabClient(shutdown_timeout=2, handle_sigterm=True)
record(client, "only")
signal.signal(signal.SIGALRM, lambda *ignored: os.kill(os.getpid(), signal.SIGTERM))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.5)
while True:
    signal.pause()
"""
    with start(tmp_path, server, script, begin="") as program:
        assert program.wait(20) == -signal.SIGTERM, program.text()


@pytest.mark.parametrize("last_line", ["client.close(30)", "sys.exit(3)"], ids=["close", "exit"])
@pytest.mark.parametrize("handler", ["", "handler"], ids=["no-handler", "handler"])
def test_sigterm_in_the_middle_of_closing(server, tmp_path, last_line, handler):
    """While `close`, or the exit of the process, delivers what is left, a SIGTERM does not cut that short."""
    script = f"""
def handler(number, frame):
    say("handled", client.stats().queued + client.stats().in_flight)

signal.signal(signal.SIGTERM, {handler or "signal.SIG_DFL"})
client = FocusLabClient(handle_sigterm=True, flush_interval=60, shutdown_timeout=30, backoff_base=0.01)
for n in range(9):
    record(client, n)
{last_line}
"""
    arrived, signalled = threading.Event(), threading.Event()

    def respond(request: Request) -> Reply:
        if not signalled.is_set():
            arrived.set()
            signalled.wait(40)
            eventually(lambda: program.process.poll() is not None, 0.3)
            raise ConnectionResetError  # this request is not taken: it must come once more
        return Reply()

    server.respond = respond
    with start(tmp_path, server, script) as program:
        assert arrived.wait(40), program.text()  # nothing is sent before the client closes
        program.process.send_signal(signal.SIGTERM)
        signalled.set()
        status = program.wait()
    assert_exact(program, server, at_least=9)
    assert ("handled 0" in program.text()) == bool(handler), program.text()
    assert status == ((3 if "exit" in last_line else 0) if handler else -signal.SIGTERM), program.text()


def test_an_ignored_sigterm_stays_ignored(server, tmp_path):
    """A process that ignores SIGTERM continues to, whatever handle_sigterm is."""
    script = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
client = FocusLabClient(handle_sigterm=True)
record(client, "before")
os.kill(os.getpid(), signal.SIGTERM)
record(client, "after")
assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
"""
    with start(tmp_path, server, script) as program:
        assert program.wait() == 0, program.text()
    assert_exact(program, server, at_least=2)


def test_no_other_handler_is_changed(server, tmp_path):
    """Importing and using brockman changes no signal handler; handle_sigterm=True changes that of SIGTERM."""
    script = f"""
import signal
def handlers():
    return {{number: signal.getsignal(number) for number in signal.valid_signals()}}

before = handlers()
{RECORDING}
client = FocusLabClient()
record(client, "trigger")
with client.flushing(30):
    pass
client.close(30)
assert handlers() == before
FocusLabClient(handle_sigterm=True)
assert [number for number in before if handlers()[number] != before[number]] == [signal.SIGTERM]
"""
    with start(tmp_path, server, script, begin="") as program:
        assert program.wait() == 0, program.text()
    assert_exact(program, server)


def test_handle_sigterm_in_a_thread_is_an_error(server, tmp_path):
    """The error says what to do, and is not raised where that was done."""
    script = """
from brockman.exceptions import ConfigurationError

def make():
    try:
        record(FocusLabClient(handle_sigterm=True), threading.current_thread().name)
    except ConfigurationError as error:
        say(error)

for _ in range(2):
    thread = threading.Thread(target=make, name="thread")
    thread.start()
    thread.join()
    make()
"""
    with start(tmp_path, server, script) as program:
        assert program.wait() == 0, program.text()
    assert "handle_sigterm is True in a thread" in program.text()
    assert "make the first client there, or leave it off" in program.text()
    assert sorted(program.recorded().elements()) == ["MainThread", "MainThread", "thread"]


def test_200_signals_in_the_middle_of_record_trigger(server, tmp_path):
    """Each flushes inside the call that it interrupts, and the handler lets the process continue."""
    script = """
count = 0
def handler(number, frame):
    global count
    count += 1

def send():
    for n in range(1, 201):
        time.sleep(random.uniform(0, 0.002))
        os.kill(os.getpid(), signal.SIGTERM)
        while count < n:
            time.sleep(0.0005)

signal.signal(signal.SIGTERM, handler)
client = FocusLabClient(handle_sigterm=True, flush_interval=0.01)
record(client, "first")
threading.Thread(target=send, daemon=True).start()
n = 0
while count < 200:
    record(client, n)
    n += 1
"""
    with start(tmp_path, server, script) as program:
        assert program.wait(80) == 0, program.text()
    assert_exact(program, server, at_least=200)


def test_a_process_that_is_stopped_for_longer_than_its_interval_is_exact(server, tmp_path):
    """SIGSTOP with triggers waiting, the server closes idle connections, SIGCONT."""
    script = """
client = FocusLabClient(flush_interval=0.5)
for n in range(100):
    record(client, n)
assert client.flush(30)
for n in range(100):
    record(client, f"waits {n}")
os.kill(os.getpid(), signal.SIGSTOP)
for n in range(100):
    record(client, f"after {n}")
"""
    with start(tmp_path, server, script) as program:
        wait_until_stopped(program)
        server.hang_up()
        threading.Event().wait(1)
        assert program.stop(signal.SIGCONT) == 0, program.text()
    assert_exact(program, server, at_least=300)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_function_that_is_stopped_as_soon_as_it_returns_has_delivered(server, tmp_path, kind):
    """As on AWS Lambda: what a handler under `client.flushing` recorded is received before the process stops."""
    functions = {
        "sync": "def handler(n):\n    record(client, n)",
        "async": "async def work(n):\n    record(client, n)\n\nhandler = lambda n: asyncio.run(work(n))",
    }
    script = f"""
client = FocusLabClient(flush_interval=60)

@client.flushing(timeout=20)
{functions[kind]}

for n in range(3):
    handler(n)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
    with start(tmp_path, server, script) as program:
        for number in range(1, 4):
            wait_until_stopped(program)
            assert len(server.triggers) == number, program.text()
            server.hang_up()
            program.process.send_signal(signal.SIGCONT)
        assert program.wait() == 0, program.text()
    assert_exact(program, server, at_least=3)


def test_ctrl_c_in_flush(server, tmp_path):
    """It raises KeyboardInterrupt at once, and the client goes on delivering."""
    script = """
client = FocusLabClient(read_timeout=60, shutdown_timeout=30)
record(client, "before")
try:
    client.flush(60)
except KeyboardInterrupt:
    say("interrupted", time.monotonic())
record(client, "after")
assert client.flush(30)
record(client, "at the end")
"""
    arrived, interrupted = threading.Event(), threading.Event()

    def respond(request: Request) -> Reply:
        arrived.set()
        interrupted.wait(40)
        return Reply()

    server.respond = respond
    with start(tmp_path, server, script) as program:
        assert arrived.wait(40), program.text()
        sent = time.monotonic()
        program.process.send_signal(signal.SIGINT)
        wait_for_output(program, "interrupted")
        interrupted.set()
        assert program.wait() == 0, program.text()
    assert float(program.text().split()[1]) - sent < 10
    assert_exact(program, server, at_least=3)


CHILD = """
import multiprocessing
def work():
    signal.signal(signal.SIGUSR1, strike)
    for n in range(9):
        record(client, f"child {n}")

signal.signal(signal.SIGUSR1, signal.SIG_IGN)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join()
"""


@pytest.mark.parametrize(
    ("raised", "end"),
    [
        ("SystemExit(4)", ""),
        ("KeyboardInterrupt", ""),
        ("ZeroDivisionError", ""),
        ("SystemExit", "os.kill(os.getpid(), signal.SIGTERM)"),
        ("BaseException", "child"),
    ],
    ids=["SystemExit", "KeyboardInterrupt", "Exception", "sigterm", "child"],
)
def test_a_signal_handler_that_raises_while_the_process_exits_costs_nothing(server, tmp_path, raised, end):
    """Whatever it raises, and as often as it does: everything that waits is delivered."""
    if end == "child":
        end = CHILD
    script = f"""
def strike(number, frame):
    raise {raised}

signal.signal(signal.SIGUSR1, strike)
client = FocusLabClient(handle_sigterm=True, flush_interval=60, shutdown_timeout=30, backoff_base=0.01)
for n in range(9):
    record(client, n)
{end}
"""
    attempts = []

    def respond(request: Request) -> Reply:
        attempts.append(request)
        for _ in range(3):
            os.killpg(program.process.pid, signal.SIGUSR1)
            eventually(lambda: program.process.poll() is not None, 0.1)
        if len(attempts) % 2:
            raise ConnectionResetError  # this request is not taken: it must come once more
        return Reply()

    server.respond = respond
    with start(tmp_path, server, script) as program:
        status = program.wait()
    assert_exact(program, server, at_least=18 if end == CHILD else 9)
    if "SIGTERM" in end:
        assert status == -signal.SIGTERM, program.text()


def test_ctrl_c_does_not_lengthen_an_exit(server, tmp_path):
    """With an endpoint that never answers, it is over within `shutdown_timeout`, and the log counts the loss."""
    script = """
client = FocusLabClient(flush_interval=60, read_timeout=60, shutdown_timeout=1)
record(client, "trigger")
"""
    server.respond = lambda request: Reply(act=silence)
    with start(tmp_path, server, script) as program:
        server.wait_until(lambda server: server.requests != [], 40)
        for _ in range(3):
            program.process.send_signal(signal.SIGINT)
            eventually(lambda: program.process.poll() is not None, 0.1)
        program.wait(20)
    assert "closed with 1 trigger" in program.text()
