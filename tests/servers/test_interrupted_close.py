"""A close or an exit that Ctrl-C interrupts, at each of its lines in turn: the process goes on delivering."""

from __future__ import annotations

import gc
import linecache
import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest

from brockman import client as client_module
from brockman.client import FocusLabClient
from brockman.delivery import pipeline
from brockman.process import exit, registry
from tests.support.client import KEY, record, worker_threads
from tests.support.programs import assert_exact, running
from tests.support.scripts import RECORDING
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

_FILES = {module.__file__ for module in (client_module, registry, pipeline, exit)}


def begins_block(frame: FrameType) -> bool:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


def interrupted(number: int, call: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt before the nth line that a call runs in _FILES; return False if it runs fewer."""
    seen = count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        # Not at the end of a `with` block: the tracer runs before its lock is released, a signal handler does not.
        if event == "line" and not begins_block(frame) and next(seen) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@pytest.mark.parametrize("end", ["close", "exit"])
def test_ctrl_c_at_any_line_of_a_close_loses_no_later_trigger(
    end: str, spooled: bool, server, make_client, tmp_path
) -> None:
    """A program that continues, such as an interactive one, or that still records while it exits, delivers."""
    spool = str(tmp_path / "spool") if spooled else None
    for number in count():
        client: FocusLabClient = make_client(spool_dir=spool)
        client.record_trigger("42", "came", "before")
        was_interrupted = interrupted(number, client.close if end == "close" else exit.close_all)

        later = make_client(spool_dir=spool) if end == "close" else client
        assert later.record_trigger("42", "came", f"after {number}")
        assert later.flush(10)
        assert f"after {number}" in [trigger["object"] for trigger in server.triggers]

        client.close(10)
        later.close(10)
        if not was_interrupted:
            assert number > 20
            return


def test_an_interrupted_close_leaks_no_thread(server) -> None:
    """Wherever close was interrupted, the worker thread ends once the client is gone."""

    def make(number: int) -> FocusLabClient:  # with settings, and so a thread, of its own
        return FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.05 + number / 1000)

    for number in count():
        client = make(number)
        record(client, 1)
        assert client.flush(20)
        if not interrupted(number, client.close):
            break
        del client
    assert number > 20
    gc.collect()
    have_ended = eventually(lambda: worker_threads() == [], 10)
    for leaked in range(number):
        make(leaked).close(10)
    assert have_ended


def test_ctrl_c_inside_a_close_does_not_hang_the_exit(server: RecordingServer, tmp_path) -> None:
    """A SIGINT where `queue.Queue` would leave its lock held, in the middle of close: the process ends."""
    script = f"""
import queue, signal, sys, threading
{RECORDING}
client = FocusLabClient()
record(client, "only")
client.flush(30)
def interrupt(frame, event, argument):
    if event == "c_return" and frame.f_code is threading.Condition.__enter__.__code__:
        if frame.f_back.f_code is queue.Queue.get.__code__:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)
try:
    sys.setprofile(interrupt)
    client.close(30)
except KeyboardInterrupt:
    pass
finally:
    sys.setprofile(None)
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(30) == 0, program.text()
        assert_exact(program, server)
