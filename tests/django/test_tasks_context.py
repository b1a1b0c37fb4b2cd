"""Tasks of `django.tasks`, or of django-tasks before Django 6.0, run in the context of their caller."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import django
import pytest

from tests.support.client import KEY
from tests.support.programs import environment, ran
from tests.support.server import RecordingServer

if django.VERSION < (5, 2):
    pytest.skip("django-tasks-db needs Django 5.2", allow_module_level=True)
pytest.importorskip("django_tasks_db")

PROJECT = {
    "project.py": """
SECRET_KEY = "not secret"
INSTALLED_APPS = ["brockman.django", "django_tasks_db"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
USE_TZ = True
TASKS = {
    "default": {"BACKEND": "backends.Stored"},
    "immediate": {"BACKEND": "backends.Immediate"},
    "plain": {"BACKEND": "django_tasks_db.DatabaseBackend"},
}
""",
    "backends.py": """
import django
from brockman.django.tasks_context import ContextMixin
from django_tasks_db import DatabaseBackend

if django.VERSION >= (6, 0):
    from django.tasks.backends.immediate import ImmediateBackend
else:
    from django_tasks.backends.immediate import ImmediateBackend

class Stored(ContextMixin, DatabaseBackend):
    pass

class Immediate(ContextMixin, ImmediateBackend):
    pass
""",
    "tasks.py": """
import django
from brockman.client import FocusLabClient
if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task

client = FocusLabClient()

@task
def record(name, title=None):
    return client.record_trigger(action="viewed", obj=name, variables={"title": title})

@task(takes_context=True)
def record_with_its_context(context, name):
    return client.record_trigger(action="viewed", obj=name, variables={"attempt": context.attempt})

@task
async def arecord(name):
    return record.func(name)

@task
def parent(name):
    record.enqueue(name)

@task(backend="plain")
def plain(**arguments):
    client.record_trigger(7, "viewed", f"with a backend as it is {sorted(arguments)}")
""",
    "call.py": """
import asyncio, os, pickle
os.environ["DJANGO_SETTINGS_MODULE"] = "project"
import django
django.setup()
import brockman, tasks
from brockman import contexts
from django.core.management import call_command

call_command("migrate", verbosity=0)

for actor in ("ada", "bob"):
    with brockman.context(actor_id=actor, variables={"of": actor}):
        tasks.record.enqueue(f"plain {actor}", title="a title")
        tasks.record_with_its_context.enqueue(f"with its context {actor}")
        tasks.arecord.enqueue(f"coroutine {actor}")
        tasks.parent.enqueue(f"of a task {actor}")
        asyncio.run(tasks.record.aenqueue(f"awaited {actor}"))
        tasks.record.using(backend="immediate").enqueue(f"immediate {actor}")
        if django.VERSION >= (6, 1):  # tasks can be pickled
            again = pickle.loads(pickle.dumps(tasks.record.using(priority=3)))
            assert again == tasks.record.using(priority=3)
            again.enqueue(f"pickled {actor}")
        tasks.plain.enqueue()
with contexts.entered(contexts.Context(is_untracked=True)):
    tasks.record.enqueue("untracked")
tasks.record.enqueue("without a context")
tasks.record.enqueue("a wrong one", _brockman_context=["nonsense"])
""",
    "work.py": """
import json, os
os.environ["DJANGO_SETTINGS_MODULE"] = "project"
import django
django.setup()
from django.core.management import call_command
from django_tasks_db.models import DBTaskResult

for backend in ("default", "plain"):
    call_command("db_worker", batch=True, startup_delay=False, backend_name=backend)
failed = DBTaskResult.objects.failed()
untracked = DBTaskResult.objects.get(args_kwargs__args=["untracked"])
print(json.dumps([[one.args_kwargs["args"][0] for one in failed], untracked.return_value]))
""",
}


def test_a_task_runs_in_the_context_of_its_caller(server: RecordingServer, tmp_path: Path) -> None:
    """With a database backend and its worker, synchronous or not; the function gets its own arguments only."""
    for name, text in PROJECT.items():
        (tmp_path / name).write_text(text)

    def run(program: str) -> str:
        env = environment(FL_ENDPOINT=server.endpoint, FL_API_KEY=KEY)
        ended = ran([sys.executable, program], cwd=tmp_path, env=env)
        assert ended.status == 0, ended.err
        return ended.out

    run("call.py")
    failed, untracked = json.loads(run("work.py").splitlines()[-1])
    assert set(failed) == {"without a context", "a wrong one"}
    assert untracked is False

    kinds = ["plain", "with its context", "coroutine", "of a task", "awaited", "immediate"]
    kinds += ["pickled"] if django.VERSION >= (6, 1) else []
    arrived = Counter((trigger["object"], trigger["actor_id"]) for trigger in server.triggers)
    assert arrived == {
        **{(f"{kind} {actor}", actor): 1 for kind in kinds for actor in ("ada", "bob")},
        ("with a backend as it is []", "7"): 2,
    }
    assert all(one["actor_id"] == one.get("variables", {"of": "7"})["of"] for one in server.triggers)
