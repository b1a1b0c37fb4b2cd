"""Forks: each process delivers what it recorded itself, a child starts empty, and neither waits for the other."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from tests.support.endpoint import Endpoint
from tests.support.programs import assert_exact, running
from tests.support.scripts import BEGIN, accept_two_of_three, hold_until, run
from tests.support.server import Reply, Request
from tests.support.waiting import eventually


def test_150_forks_in_the_middle_of_everything(server, tmp_path):
    """With 8 threads recording and an endpoint that answers 503 every third time, no child hangs in flush(2)."""
    script = """
client = make(max_queue_size=100_000)
over = threading.Event()

def work(name):
    for n in range(10**9):
        record(client, f"{name} {n}")
        if over.wait(0.01):
            return

def child(number):
    record(client, f"child {number}")
    started = time.monotonic()
    client.flush(2)
    assert time.monotonic() - started < 2 + 10
    if number % 2:
        client.close(20)
        os._exit(0)

threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
for thread in threads:
    thread.start()
children = []
for number in range(150):
    children.append(fork(child, number))
    if len(children) == 8:
        join(children.pop(0))
join(*children)
over.set()
for thread in threads:
    thread.join()
print("children are out", flush=True)
"""
    endpoint = accept_two_of_three(server)
    program = run(tmp_path, server, script)
    assert "children are out" in program.text()
    assert_exact(program, endpoint, at_least=150 + 8)
    assert sum(name.startswith("child") for name in program.recorded()) == 150


@pytest.mark.parametrize("how", ["os.fork", "fork_in_c"])
def test_a_fork_while_a_batch_is_in_flight(server, tmp_path, how):
    """8 children, forked while the server holds the parent's batch, deliver at once; the parent does afterwards.

    So they do if the fork is made in C, as by uWSGI, without Python's hooks: 108 ids, none twice.
    """
    script = f"""
client = make(flush_interval=60, max_batch_size=100)
for n in range(100):
    record(client, f"parent {{n}}")
wait_for(lambda: os.path.exists("arrived"))

def child(number):
    record(client, f"child {{number}}")
    if number % 2:
        assert client.flush(30)

join(*[fork(child, number, how={how}) for number in range(8)])
assert client.stats().in_flight + client.stats().delivered == 100
"""
    server.respond = hold_until(server, tmp_path / "arrived", 100, 8)
    assert_exact(run(tmp_path, server, script), server, at_least=108)
    assert len(server.ids()) == 108


def test_a_fork_without_the_hooks_of_python(server, tmp_path):
    """Child and grandchild deliver what they record, and nothing else."""
    script = """
client = make()

def child():
    assert client.stats().recorded == 0
    record(client, f"child of {os.getppid()} {time.monotonic_ns()}")
    assert client.flush(30)
    assert client.stats().delivered == 1

def family():
    child()
    join(fork(child, how=fork_in_c), fork(child))

join(fork(family, how=fork_in_c))  # before the first trigger
record(client, "parent")
assert client.flush(30)
join(fork(family, how=fork_in_c))
record(client, "waits")
join(fork(family, how=fork_in_c))
"""
    assert_exact(run(tmp_path, server, script), server, at_least=11)


def test_every_process_counts_for_itself(server, tmp_path):
    """Child, grandchild and daemon start with all counts at 0, the parent keeps its own; no two ids are equal."""
    script = """
client = make(flush_interval=60)
for n in range(10):
    record(client, f"parent {n}")

def child(name):
    assert (client.stats().recorded, client.stats().queued) == (0, 0)
    for n in range(5):
        record(client, f"{name} {n}")
    assert client.stats().recorded == 5

def family():
    child("child")
    join(fork(child, "grandchild"))
    assert client.stats().recorded == 5

def daemonise():
    os.setsid()
    fork(child, "daemon")
    os._exit(0)

join(fork(family), fork(daemonise))
assert (client.stats().recorded, client.stats().queued) == (10, 10)
"""
    program = run(tmp_path, server, script)
    server.wait_until(lambda server: len(server.ids()) >= 25)  # no process waits for the daemon
    assert_exact(program, server, at_least=25)


def test_a_fork_with_a_given_session(server, tmp_path):
    """With session=, no connection is used by two processes, so none reads the answer for another."""
    script = """
import requests
client = make(session=requests.Session())

def work(name):
    for n in range(20):
        record(client, f"{name} {n}")
        assert client.flush(30)

def child(number):
    work(f"child {number}")

work("early")
children = [fork(child, number) for number in range(8)]
work("parent")
join(*children)
"""
    assert_exact(run(tmp_path, server, script), server, at_least=200)
    users: dict[int, set[str]] = {}
    for request in server.requests:
        users.setdefault(request.connection, set()).update(trigger["actor_id"] for trigger in request.triggers)
    assert {len(processes) for processes in users.values()} == {1}


def test_a_fork_with_a_given_transport(server, tmp_path):
    """With transport=, the child's triggers go to its copy of it, and what waits in the parent does not."""
    script = """
from brockman.transport.memory import MemoryTransport
transport = MemoryTransport()
client = make(transport=transport, flush_interval=60)

def sent():
    return [trigger["object"] for trigger in transport.triggers]

client.record_trigger(1, "a", "sent")
client.flush(30)
client.record_trigger(1, "a", "waits")

def child():
    client.record_trigger(1, "a", "child")
    assert client.flush(30)
    assert sent() == ["sent", "child"], sent()

join(fork(child))
assert client.flush(30)
assert sent() == ["sent", "waits"], sent()
"""
    run(tmp_path, server, script)


def test_subprocesses_with_a_preexec_fn(server, tmp_path):
    """100 of them, each a fork with Python's hooks, while threads record: none hangs, nothing is lost."""
    script = """
import subprocess
client = make()
over = threading.Event()

def work(name):
    for n in range(10**9):
        record(client, f"{name} {n}")
        if over.wait(0.001):
            return

threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for _ in range(100):
    subprocess.run(["true"], preexec_fn=os.setpgrp, check=True, timeout=30)
over.set()
for thread in threads:
    thread.join()
"""
    assert_exact(run(tmp_path, server, script), server, at_least=100)


@pytest.mark.parametrize("leaves", ["os._exit(0)", "return"])
def test_a_fork_in_on_error(server, tmp_path, leaves):
    """The child of a callback delivers what it records, and ends; the rest of the batch stays the parent's."""
    script = f"""
children = []
def on_error(error, bodies):
    pid = os.fork()
    if pid:
        children.append(pid)
        return
    signal.alarm(20)
    record(client, f"child {{len(children)}}")
    assert client.flush(15)
    {leaves}

client = make(flush_interval=60, on_error=on_error)
for n in range(4):
    record(client, n)
    client.record_trigger(1, "refuse", "this")
assert client.flush(30)
wait_for(lambda: len(children) == 4)
join(*children)
"""
    endpoint = Endpoint(server, lambda r: 400 if any(t["action"] == "refuse" for t in r.triggers) else 201)
    assert_exact(run(tmp_path, server, script), endpoint, at_least=8)


def test_a_fork_in_before_record(server, tmp_path):
    """Parent and child both continue the call that forked, each with a trigger of its own."""
    script = """
children = []
def before_record(arguments):
    if arguments["obj"] == "fork":
        children.append(os.fork())
        arguments["obj"] = "parent" if children[-1] else "child"
    return arguments

client = make(before_record=before_record)
record(client, "before")
assert client.record_trigger(1, "viewed", "fork")
name = "parent" if children[-1] else "child"
os.write(_truth, f"{name}\\n".encode())
record(client, f"{name} goes on")
if children[-1]:
    join(*children)
"""
    assert_exact(run(tmp_path, server, script), server, at_least=5)


@pytest.mark.parametrize("identity", ["", "trigger_id=uuid.uuid4(), "], ids=["plain", "with an id"])
def test_a_fork_in_may_track(server, tmp_path, identity):
    """Parent and child both continue the call that forked, each with a trigger that is delivered."""
    script = f"""
import uuid
from brockman.wsgi import FocusLabMiddleware
children = []
def may_track(request):
    children.append(os.fork())
    return True

def app(environ, start_response):
    assert client.record_trigger({identity}action="viewed", obj="fork")
    name = "parent" if children[-1] else "child"
    record(client, f"{{name}} goes on")
    return []

client = make()
record(client, "before")
FocusLabMiddleware(app, may_track=may_track, client=client, debug=True)({{}}, None)
if children[-1]:
    join(*children)
"""
    run(tmp_path, server, script)
    assert Counter(trigger["object"] for trigger in server.triggers) == {
        "before": 1,
        "fork": 2,
        "parent goes on": 1,
        "child goes on": 1,
    }


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_a_lock_of_the_users_fork_hooks_blocks_nobody(server, tmp_path, first):
    """Fork hooks and a log handler that take the same lock, set up before or after those of brockman."""
    hooks = """
import logging, os, threading
lock = threading.Lock()

class Handler(logging.Handler):
    def emit(self, log):
        with lock:
            os.write(2, log.getMessage().encode() + bytes([10]))

logging.basicConfig(handlers=[Handler()], level=logging.DEBUG)
os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)
"""
    script = """
client = make()
over = threading.Event()

def talk():
    while not over.wait(0.001):
        logging.info("talk")
        record(client, f"talk {time.monotonic_ns()}")

def child(number):
    record(client, f"child {number}")
    if number % 2:
        client.flush(30)

thread = threading.Thread(target=talk)
thread.start()
for number in range(10):
    join(fork(child, number))
over.set()
thread.join()
"""
    endpoint = accept_two_of_three(server)
    order = [hooks, "import brockman.client"] if first else ["import brockman.client", hooks]
    program = run(tmp_path, server, "\n".join([*order, script]))
    assert_exact(program, endpoint, at_least=10)
    assert "triggers are held" in program.text()


@pytest.mark.parametrize(
    "moment", ["client.flush(30)", "wait_for(lambda: os.path.exists('arrived'))"], ids=["idle", "at work"]
)
def test_a_child_does_not_keep_the_parents_connection_open(server, tmp_path, moment):
    """Idle or in use at the fork, it is closed when the parent closes it, although the child lives on."""
    script = f"""
client = make()
record(client, "parent")
{moment}

def child():
    wait_for(lambda: os.path.exists("go on"))
    record(client, "child")

pid = fork(child)
open("forked", "w").close()
client.close(30)
join(pid)
"""

    def respond(request: Request) -> Reply:
        (tmp_path / "arrived").touch()
        eventually(lambda: "flush" in moment or (tmp_path / "forked").exists(), 30)
        return Reply()

    server.respond = respond
    (tmp_path / "script.py").write_text(BEGIN + script)
    with running([sys.executable, "script.py"], tmp_path, server) as program:
        assert eventually((tmp_path / "forked").exists), program.text()
        assert eventually(lambda: server.requests and not server.open_connections, 15), (
            "the connection is still open"
        )
        assert program.process.poll() is None
        (tmp_path / "go on").touch()
        assert program.wait() == 0, program.text()
    assert_exact(program, server, at_least=2)


def test_a_forked_child_does_not_keep_the_parents_triggers(server, tmp_path):
    """A child frees the triggers of the parent's buffer when it records its first own."""
    script = """
import gc
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
    assert_exact(run(tmp_path, server, script), server, at_least=1001)
