"""Every way to call a task, in the contexts of two actors; the tasks record with a client of their own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import celery

import brockman
import brockman.celery  # every app has the task
from brockman import contexts
from tests.celery.workers import NAME, WITH_TASK, Worker
from tests.support.programs import environment, started
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

# The tasks' module. Each records what it is called with, and notes whether the trigger was recorded.
TASKS = (
    WITH_TASK
    + """
import brockman
from celery.exceptions import SoftTimeLimitExceeded
from brockman.client import FocusLabClient

client = FocusLabClient()

def note(name, taken):
    with open(os.environ["TRUTH"], "a") as truth:
        print(name, taken, client.stats().dropped.get("untracked", 0), file=truth)

@app.task
def record(*_, name, **who):
    taken = client.record_trigger(action="viewed", obj=name, **who)
    note(name, taken)
    return name

@app.task
def fail(name):
    raise ValueError(name)

@app.task
def handle(request, error, traceback, name):
    record(name=name)

@app.task(bind=True, acks_late=True)
def retried(self, name):
    if not self.request.retries:
        with brockman.context(actor_id="inside the task"):
            raise self.retry(countdown=0.1, max_retries=3)
    record(name=name)

@app.task
def leaves_a_block_open(name):
    brockman.context(actor_id="left open").__enter__()
    record.apply(kwargs={"name": name + " eager", "actor_id": name.split()[-1]}, throw=True)

@app.task
def parent(name):
    record.delay(name=name)

@app.task(soft_time_limit=0.2)
def limited(name):
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        record(name=name)
"""
)
ACCEPT = {"accept_content": ["json", "pickle", "yaml", "msgpack"]}
SETTINGS = {"FL_FLUSH_INTERVAL": "0.05", "C_FORCE_ROOT": "1"}  # of the worker
WITHOUT = 4  # plain calls outside of a context, without an actor
WRONG_HEADERS: list[Any] = [
    7,
    "nonsense",
    "[1, 2]",
    "[" * 100_000,
    '{"actor_id": [1], "variables": 3}',
    {"a": "b"},
]


def call_everything(app: Any, actor: str, *, is_prefork: bool) -> Iterator[str]:
    """Call tasks in the context of an actor; yield the object of each trigger, whose last word is the actor."""

    def task(name: str, kind: str, **options: Any) -> Any:
        expected.append(f"{kind} {actor}")
        return app.signature(f"app.{name}", kwargs={"name": expected[-1]}, **options)

    def unrecorded(name: str, **options: Any) -> Any:
        return app.signature(f"app.{name}", kwargs={"name": f"unrecorded {actor}"}, **options)

    expected: list[str] = []
    group, chain, chord = celery.group, celery.chain, celery.chord
    with brockman.context(actor_id=actor, variables={"of": actor}):
        task("record", "plain").delay()
        task("record", "countdown").apply_async(countdown=0.2)
        task("retried", "retry").delay()
        task("retried", "headers of a tracing tool").apply_async(headers={"headers": {"sentry-trace": "1"}})
        task("parent", "published by a task").delay()
        unrecorded("fail", link_error=task("record", "link_error")).delay()
        unrecorded("fail", link_error=task("handle", "link_error with arguments")).delay()
        task("record", "linked", link=task("record", "link")).delay()
        group(task("record", "group 1"), chain(task("record", "group 2"), task("record", "chain in it"))).delay()
        chain(
            task("record", "chain 1"), task("retried", "chain 2", immutable=True), task("record", "chain 3")
        ).delay()
        chord([task("record", "header 1"), task("record", "header 2")], task("record", "body")).delay()
        chord([unrecorded("fail")], unrecorded("record").on_error(task("record", "chord error"))).delay()
        for serializer in ("pickle", "yaml", "msgpack"):
            task("record", serializer).apply_async(serializer=serializer)
        app.conf.task_protocol = 1
        del app.amqp
        task("record", "protocol 1").delay()
        task("retried", "retry of protocol 1").delay()
        app.conf.task_protocol = 2
        del app.amqp
        app.tasks[NAME].delay(action="viewed", obj=f"of ours {actor}")
        app.tasks[NAME].apply_async(
            (), {"action": "viewed", "obj": f"ours {actor}"}, link=task("record", "after ours")
        )
        expected += [f"of ours {actor}", f"ours {actor}"]
        if is_prefork:
            task("limited", "time limit").delay()
        app.send_task("app.leaves_a_block_open", kwargs={"name": f"open {actor}"})
        expected.append(f"open {actor} eager")
    yield from expected


def main() -> None:
    """Call everything for the app whose configuration is the argument; print the objects of all triggers."""
    conf, is_prefork = json.loads(sys.argv[1]), sys.argv[2] == "prefork"
    app = celery.Celery("caller")
    app.conf.update(conf)
    expected = [name for actor in ("ada", "bob") for name in call_everything(app, actor, is_prefork=is_prefork)]
    with contexts.entered(contexts.Context(is_untracked=True)):
        app.send_task("app.parent", kwargs={"name": "untracked"})
    for number, header in enumerate(WRONG_HEADERS):
        expected.append(f"wrong header {number} carl")
        arguments = {"name": expected[-1], "actor_id": "carl"}
        app.send_task("app.record", kwargs=arguments, headers={"brockman-context": header})
    for _ in range(WITHOUT):
        app.send_task("app.record", kwargs={"name": "without a context"})
    app.send_task("app.retried", kwargs={"name": "without a context, retried from within one"})
    print(json.dumps(expected))


@contextlib.contextmanager
def calling(conf: dict[str, Any], pool: str, endpoint: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Call everything in a process of its own, while the worker starts."""
    command = [sys.executable, "-m", "tests.celery.calls", json.dumps(conf), pool]
    with started(command, env=environment(**endpoint)) as process:
        yield process


def check(caller: subprocess.Popen[str], running: Worker, server: RecordingServer) -> None:
    """Fail unless each trigger arrives, with its caller's actor and variables, and nobody else's."""
    out, err = caller.communicate()
    assert caller.returncode == 0, err
    expected = set(json.loads(out))

    def is_done() -> bool:
        is_noted = running.text().count("raised unexpected: InvalidTrigger") == WITHOUT + 1
        return is_noted and len(server.triggers) >= len(expected) and "untracked" in running.truth.read_text()

    assert eventually(is_done, 30), running.text()
    assert {trigger["object"] for trigger in server.triggers} == expected
    for trigger in server.triggers:
        actor = trigger["object"].removesuffix(" eager").rpartition(" ")[2]
        assert trigger["actor_id"] == actor, trigger
        assert trigger.get("variables") == ({"of": actor} if actor != "carl" else None), trigger
    (untracked,) = (line for line in running.recorded() if line.startswith("untracked "))
    assert untracked == "untracked False 1"


if __name__ == "__main__":
    main()
