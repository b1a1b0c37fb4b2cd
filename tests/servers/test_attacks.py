"""What once lost a trigger, held an exit or leaked: each attack stays as a test."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from brockman.client import FocusLabClient
from brockman.process import registry
from tests.conftest import KEY, eventually, record
from tests.delivery.test_worker import flusher_threads
from tests.servers.running import RECORDING, assert_exact, running
from tests.support.server import RecordingServer, Reply

TIME = """
import atexit, time
def tell():
    print("took", time.monotonic() - started, flush=True)
atexit.register(tell)  # runs last
"""


def took(text: str) -> float:
    """Return the seconds that the end of a script has taken."""
    return float(next(line for line in text.splitlines() if line.startswith("took")).split()[1])


def test_ctrl_c_inside_a_close_does_not_hang_the_exit(server: RecordingServer, tmp_path) -> None:
    """Struck where `queue.Queue` would leave its lock held, in the middle of close: the process ends."""
    script = f"""
import queue, signal, sys, threading
{RECORDING}
client = FocusLabClient()
record(client, "only")
client.flush(30)
def strike(frame, event, argument):
    if event == "c_return" and frame.f_code is threading.Condition.__enter__.__code__:
        if frame.f_back.f_code is queue.Queue.get.__code__:
            sys.setprofile(None)
            os.kill(os.getpid(), signal.SIGINT)
try:
    sys.setprofile(strike)
    client.close(30)
except KeyboardInterrupt:
    pass
finally:
    sys.setprofile(None)
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(30) == 0, program.text()
        assert_exact(program, server)


def test_a_hook_and_a_finalizer_may_both_come_late(server: RecordingServer, tmp_path) -> None:
    """The thread that a late hook might have started does not hold up what a finalizer records after it."""
    script = f"""
import atexit
atexit.register(lambda: record(client, "hook"))
{RECORDING}
class Last:
    def __init__(self): self.client, self.write, self.truth = client, os.write, _truth
    def __del__(self):
        if self.client.record_trigger("late", "viewed", "del"):
            self.write(self.truth, b"del\\n")
client = FocusLabClient(shutdown_timeout=20)
record(client, "main")
kept = Last()
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0, program.text()
        assert_exact(program, server, 3)
        assert program.text() == ""


def test_many_sigterms_get_one_deadline(server: RecordingServer, tmp_path) -> None:
    """A second SIGTERM in the middle of the first one's close does not begin the time anew."""
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
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(20) == -15, program.text()


def test_a_slow_on_drop_of_many_clients_takes_its_time_once(server: RecordingServer, tmp_path) -> None:
    """Twenty clients that have much to tell at the end share the moment that there is for it."""
    server.respond = lambda request: Reply(503)
    script = f"""
{TIME}
{RECORDING}
def slow(reason, body): time.sleep(0.01)
clients = [FocusLabClient(shutdown_timeout=0.5, on_drop=slow, max_queue_size=1000 + n) for n in range(20)]
for n in range(2000): record(clients[n % 20], n)
started = time.monotonic()
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0
        assert took(program.text()) < 0.5 + 0.25 + 2  # each one's own quarter of a second would be five in all
        assert "on_drop was not called for" in program.text()


def test_aclose_does_not_block_the_loop_that_a_callback_waits_for(server: RecordingServer, make_client) -> None:
    """An on_error that hands something to the event loop has its answer while aclose waits."""
    server.respond = lambda request: Reply(400)
    answers: list[int] = []

    async def answer() -> int:
        return 42

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def on_error(error, bodies) -> None:
            for _ in range(20):
                answers.append(asyncio.run_coroutine_threadsafe(answer(), loop).result(20))

        client = make_client(on_error=on_error)
        record(client, 1)
        assert await client.aclose(20)
        assert answers == [42] * 20

    asyncio.run(main())


def test_a_close_that_was_struck_at_its_first_step_leaks_no_thread(make_client) -> None:
    """The client has let go and was interrupted before it closed: the thread ends by itself."""
    client = make_client()
    record(client, 1)
    assert client.flush(20)
    registry.release(client._lease)  # what close does first
    del client
    assert eventually(lambda: flusher_threads() == [])


def test_what_a_client_without_a_thread_left_is_delivered_when_one_can_be_had(server, monkeypatch) -> None:
    """No thread could be had, then the client went: what it recorded does not wait for the end of the process."""
    import _thread

    real = _thread.start_new_thread

    def none(*arguments):
        raise RuntimeError("can't start new thread")

    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.05)
    monkeypatch.setattr(_thread, "start_new_thread", none)
    record(client, 1)
    monkeypatch.setattr(_thread, "start_new_thread", real)
    del client
    gc.collect()
    server.wait_until(lambda s: len(s.triggers) == 1)
    assert eventually(lambda: flusher_threads() == [])


@pytest.mark.parametrize("first", ["dead", "healthy"])
def test_a_dead_endpoint_leaves_time_for_a_healthy_one(server: RecordingServer, tmp_path, first: str) -> None:
    """Late hooks record on both: what the healthy one gets arrives, whichever comes first."""
    script = f"""
import atexit
def late():
    for client in (clients if "{first}" == "dead" else clients[::-1]):
        if client is clients[1]: record(client, "late")
        else: client.record_trigger("a", "viewed", "lost")
atexit.register(late)
{RECORDING}
clients = [FocusLabClient(endpoint="http://127.0.0.1:9/", shutdown_timeout=4), FocusLabClient(shutdown_timeout=4)]
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0, program.text()
        assert_exact(program, server)


def test_a_forked_child_does_not_keep_the_parents_triggers(server: RecordingServer, tmp_path) -> None:
    """With the first trigger of its own, a child lets go of what the parent's buffer held."""
    script = f"""
import gc
{RECORDING}
from brockman.buffer.memory import MemoryBuffer
client = FocusLabClient(flush_interval=600, max_batch_size=10**6)
for n in range(1000): record(client, n)
if not os.fork():
    record(client, "child")
    client.flush(30)
    gc.collect()
    held = sum(len(one) for one in gc.get_objects() if isinstance(one, MemoryBuffer))
    os._exit(held > 0)
assert os.wait()[1] == 0
"""
    with running([sys.executable, "-c", script], tmp_path, server) as program:
        assert program.wait(60) == 0, program.text()
        assert_exact(program, server, 1001)


def test_a_wrapper_is_not_taken_for_what_it_wraps(make_client) -> None:
    """Two functions that hand on the attributes of one method are two settings."""

    class Wrapper:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def __call__(self, *arguments):
            pass

    class Sink:
        def dropped(self, reason, body):
            pass

    sink = Sink()
    first, second = (make_client(on_drop=Wrapper(sink.dropped)) for _ in range(2))
    record(first, 1)
    assert first.flush()
    assert second.stats().delivered == 0
