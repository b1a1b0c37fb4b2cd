"""Forks with a spool: each process has its own folder, and no child keeps or gives up what is the parent's."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.programs import Program, running
from tests.support.scripts import BEGIN, run
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

SPOOL = """
from contextlib import suppress

def held(pid="self"):
    "The files below the spool that a process has open."
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        with suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{number}"))
    return [path for path in found if "/spool/" in path]  # the spool itself has no lock

def keeps_nothing_of(pid):
    "Not at once: the thread of this process may look for processes that are gone."
    return not any(f"/{pid}-" in path for path in held())

def start(target, *arguments):
    thread = threading.Thread(target=target, args=arguments, daemon=True)
    thread.start()
    return thread

def spooled(**options):
    return make(**(dict(spool_dir=os.path.abspath("spool")) | options))

def folders(pid):
    return [name for name in os.listdir("spool") if name.startswith(f"{pid}-")]
"""


def end(folder: Path, server: RecordingServer, program: Program) -> None:
    """Have another process deliver what is left; then all has arrived, once by its id, and the spool is empty."""
    deliver(folder, server)
    recorded = program.recorded()
    # Not from requests that ended with their process.
    whole = [request for request in server.requests if len(request.body) == int(request.headers["content-length"])]
    triggers = [trigger for request in whole for trigger in request.triggers]
    received = Counter({trigger["id"]: trigger["object"] for trigger in triggers}.values())
    assert (recorded - received, received - recorded) == (Counter(), Counter()), program.text()
    assert os.listdir(folder / "spool") == []


def deliver(folder: Path, server: RecordingServer) -> None:
    """Have another process deliver all that waits in the spool and has no owner."""
    run(folder, server, SPOOL + "client = spooled()\nassert client.flush(60), client.stats()\nclient.close(20)\n")


@needs_proc
def test_100_forks_under_load(server, tmp_path):
    """Threads record, begin segments and adopt: nothing is lost, and no child holds a file of its parent.

    Of the children, a third records, a third forks again, and a third does nothing.
    """
    script = """
client = spooled(flush_interval=0.01, max_batch_size=20)
over = threading.Event()

def work(name):
    for n in range(10**9):
        record(client, f"{name} {n}")
        if over.wait(0.01):
            return

def again(call, *arguments):
    while not over.wait(0.01):
        call(*arguments)

def child(number):
    assert not held(), held()
    if number % 3 == 0:
        record(client, f"child {number}")
        assert folders(os.getpid())
    if number % 3 == 1:
        join(fork(child, number - 1))
    if number % 2:
        os._exit(0)

buffer = client._pipeline.buffer
record(client, "first")
threads = [start(work, n) for n in range(4)]
threads += [start(again, buffer.adopt, 0), start(again, buffer._writer.rotate)]
children = []
for number in range(100):
    children.append(fork(child, number))
    if len(children) == 4:
        join(children.pop(0))
join(*children)
over.set()
for thread in threads:
    thread.join()
assert len(folders(os.getpid())) == 1
print("children are out", flush=True)
"""
    program = run(tmp_path, server, SPOOL + script)
    assert "children are out" in program.text()
    end(tmp_path, server, program)
    assert sum(count for name, count in program.recorded().items() if name.startswith("child")) == 67


DEAD = "dead = dict(endpoint='http://127.0.0.1:9/', shutdown_timeout=0.2)\n"


def test_the_folder_stays_the_parents_while_it_lives(server, tmp_path):
    """Whatever a child does, no third process delivers what the parent holds; when the parent is gone, it does.

    Also when the child lives on: by os.fork, in a thread, by multiprocessing, or as a daemon that forks twice.
    """
    script = """
import multiprocessing
client = spooled(**dead)
record(client, "parent")

def child(name):
    if name == "closes":
        client.close(0)
    if name == "records":
        record(client, "child")
        client.close(0)
    if name == "collects":
        import gc
        globals()["client"] = None
        gc.collect()
    if name == "flushes":
        client.flush(0)
    wait_for(lambda: keeps_nothing_of(parent))

def lives_on():
    assert not held(), held()
    signal.alarm(0)
    os.setsid()
    open(f"child {os.getpid()}", "x").close()
    signal.pause()

def twice():
    fork(lives_on)
    os._exit(0)

parent = os.getpid()
join(*[fork(child, name) for name in ("closes", "records", "collects", "flushes", "nothing")])
context = multiprocessing.get_context("fork")
processes = [context.Process(target=child, args=(name,)) for name in ("records", "nothing")]
for process in processes:
    process.start()
for process in processes:
    process.join()
    assert process.exitcode == 0
start(lambda: join(fork(child, "records"))).join()
fork(lives_on)
join(fork(twice))
open("ready", "x").close()
signal.pause()
"""
    (tmp_path / "script.py").write_text(BEGIN + SPOOL + DEAD + script)
    (tmp_path / "other").mkdir()
    with running([sys.executable, "script.py"], tmp_path, server) as parent:
        assert eventually((tmp_path / "ready").exists), parent.text()
        assert eventually(lambda: len(list(tmp_path.glob("child *"))) == 2), parent.text()
        children = [int(path.name.split()[1]) for path in tmp_path.glob("child *")]
        try:
            deliver(tmp_path, server)
            # The parent may have adopted what a child has left; what is its own stays.
            assert {trigger["object"] for trigger in server.triggers} <= {"child"}
            os.kill(parent.process.pid, signal.SIGKILL)
            parent.wait()
            end(tmp_path, server, parent)
            for pid in children:
                os.kill(pid, 0)  # they live
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)


@needs_proc
def test_a_program_that_a_child_becomes_inherits_nothing(server, tmp_path):
    """subprocess without close_fds, os.posix_spawn and os.execv: no file of the spool is open, no lock is kept."""
    script = """
import subprocess
LOOK = "import os; print(*[os.readlink(e.path) for e in os.scandir('/proc/self/fd') if os.path.lexists(e.path)])"
client = spooled(**dead)
record(client, "before")
assert held()

def look(*how, **more):
    said = subprocess.run([sys.executable, "-c", LOOK], close_fds=False, capture_output=True, text=True, **more)
    assert "pipe:" in said.stdout and "/spool" not in said.stdout, said

look()
look(preexec_fn=os.getpid)
print("spawned", flush=True)
pid = os.posix_spawn(sys.executable, [sys.executable, "-c", LOOK], os.environ)
join(pid)
print("becomes", flush=True)
os.execv(sys.executable, [sys.executable, "-c", LOOK])
"""
    program = run(tmp_path, server, SPOOL + DEAD + script)
    assert "becomes" in program.text()
    assert "/spool" not in program.text()
    end(tmp_path, server, program)


@needs_proc
def test_a_fork_while_a_client_is_being_closed(server, tmp_path):
    """The child keeps no lock of a client that another thread closes: what that leaves is adopted at once."""
    script = """
client = spooled(**dead)
record(client, "parent")
closing = start(client.close, 2)
wait_for(lambda: not client._pipeline.is_registered)

def child():
    assert not held(), held()
    wait_for(lambda: os.path.exists("over"))

pid = fork(child)
closing.join()
fresh = spooled()
assert fresh.flush(20) and fresh.stats().recovered == 1, fresh.stats()
open("over", "x").close()
join(pid)
"""
    end(tmp_path, server, run(tmp_path, server, SPOOL + DEAD + script))


@needs_proc
def test_a_fork_hook_that_records(server, tmp_path):
    """A hook of the user's that comes before ours records in the child, which delivers it and keeps no lock."""
    hook = """
import os
import signal
client = other = None
pids = []
def hook():
    if client is not None:
        record(client, f"hook {os.getpid()}")
os.register_at_fork(after_in_child=hook)
"""
    script = """
other = spooled(flush_interval=60)
record(other, "other")
client = spooled()
record(client, "parent")
assert client.flush(20)
parent = os.getpid()

def child():
    wait_for(lambda: keeps_nothing_of(parent))
    assert client.flush(20)
    assert client.stats().delivered == 1, client.stats()
    record(other, f"other in {os.getpid()}")
    assert other.flush(20)
    times = os.times()
    assert times.user + times.system < 5

join(fork(child))
join(fork(child))
assert other.flush(20)
"""
    (tmp_path / "script.py").write_text(hook + BEGIN + SPOOL + script)
    with running([sys.executable, "script.py"], tmp_path, server) as program:
        assert program.wait() == 0, program.text()
    end(tmp_path, server, program)
    assert len(program.recorded()) == 6


def test_a_fork_without_pythons_hooks(server, tmp_path):
    """Forked in C, a child that records with one of two clients keeps nothing of the parent's, of either."""
    script = """
one, two = spooled(flush_interval=60), spooled(flush_interval=61)
record(one, "one")
record(two, "two")
parent = os.getpid()

def child():
    record(one, "one in the child")
    wait_for(lambda: keeps_nothing_of(parent))
    record(two, "two in the child")
    assert one.flush(20) and two.flush(20)
    assert (one.stats().recovered, two.stats().recovered) == (0, 0)

join(fork(child, how=fork_in_c))
assert one.flush(20) and two.flush(20)
"""
    program = run(tmp_path, server, SPOOL + script)
    assert set(server.ids().values()) == {1}
    end(tmp_path, server, program)
