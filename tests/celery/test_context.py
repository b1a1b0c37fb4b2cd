"""A Celery task runs in the context of its caller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import brockman
from tests.celery.calls import ACCEPT, SETTINGS, TASKS, calling, check
from tests.celery.workers import messages, publisher, redis_conf, trigger_of, worker
from tests.support.programs import environment, ran_python
from tests.support.server import RecordingServer


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_a_task_runs_in_the_context_of_its_caller(
    server: RecordingServer, tmp_path: Path, redis_port: int, endpoint: dict[str, str], pool: str
) -> None:
    """However it is called, over Redis: the next of a chain, the body of a chord, callbacks and retries too."""
    if pool == "gevent":
        pytest.importorskip("gevent")
    conf = redis_conf(redis_port) | ACCEPT
    options = (tmp_path / "worker", server, conf, "-P", pool, "-c", "2")
    with calling(conf, pool, endpoint) as caller, worker(*options, source=TASKS, **SETTINGS) as running:
        check(caller, running, server)


PROGRAM = """
import json, logging
import celery
from celery import signals
from celery.app.trace import build_tracer
logging.basicConfig(format="%(message)s", level=logging.WARNING)
{setup}
import brockman
from brockman import contexts

app = celery.Celery("app", broker="memory://")
sent, seen = [], []

@signals.before_task_publish.connect(weak=False)
def look(headers=None, **_):
    sent.append(headers.get("brockman-context"))

@app.task
def look_around():
    value = contexts.get()
    seen.append(value and [value.actor_id, value.variables])

with brockman.context(actor_id=7, variables={{"title": "Zo\\u00eb"}}):
    look_around.delay()
    look_around.apply()
    look_around.apply_async(headers={{"brockman-context": '{{"actor_id": "kept"}}'}})
    with brockman.context(variables={{"text": ["x" * 40_000]}}):
        look_around.delay()
with brockman.context(actor_id="\u00eb" * 6000):
    look_around.delay()
with brockman.context():
    look_around.delay()
look_around.delay()
execute = build_tracer(look_around.name, look_around, app=app)  # as a worker does
for header in sent:
    execute("id", (), {{}}, {{"id": "id", **({{"brockman-context": header}} if header else {{}})}})
print(json.dumps([sent, seen]))
"""
DJANGO = """
import django, django.conf
django.conf.settings.configure(INSTALLED_APPS=["brockman.django"], USE_TZ=True, FL_API_KEY="key", {setting})
django.setup()
"""
PLAIN = "import brockman.celery"
VARIABLES = {"title": "Zoë"}
ON = [
    [
        '{"actor_id": "7", "variables": {"title": "Zo\\u00eb"}}',
        '{"actor_id": "kept"}',
        '{"actor_id": "7"}',
        None,
        None,
        None,
    ],
    [[7, VARIABLES], ["7", VARIABLES], ["kept", None], ["7", None], None, None, None],
]
OFF = [
    [None, '{"actor_id": "kept"}', None, None, None, None],
    [[7, VARIABLES], None, None, None, None, None, None],
]
MISTAKE = "celery_context is 'maybe'; it should be"


@pytest.mark.parametrize(
    ("setup", "variable", "found", "logged"),
    [
        (PLAIN, "1", ON, "a Celery task has 40067 bytes, more than 32768: only its actor is sent"),
        (PLAIN, "0", OFF, ""),
        (PLAIN, "maybe", ON, MISTAKE),
        (DJANGO.format(setting=""), "", ON, ""),
        (DJANGO.format(setting="FL_CELERY_CONTEXT=False"), "1", OFF, ""),
    ],
    ids=["on", "off", "wrong", "Django", "off in Django"],
)
def test_one_setting_turns_it_off(setup: str, variable: str, found: Any, logged: str) -> None:
    """A message has no header then, or without a context; an eager task runs in the context that is there."""
    more = {"FL_CELERY_CONTEXT": variable, "FL_CELERY_MODE": "a mistake elsewhere"} if variable else {}
    ended = ran_python(PROGRAM.format(setup=setup), env=environment(**more))
    assert ended.status == 0, ended.err
    assert json.loads(ended.out) == found
    assert logged in ended.err


LEFT_OVER = """
import contextlib, json
import celery
from celery import signals
from celery.app.trace import build_tracer

struck, seen = set(), []

@signals.task_postrun.connect(weak=False)  # before ours, which is not called then
def strike(task, **_):
    if task.request.id in struck:
        raise GeneratorExit

import brockman.celery
from brockman import contexts

app = celery.Celery("app", broker="memory://")

@app.task(bind=True)
def look_around(self):
    value = contexts.get()
    seen.append(value and value.actor_id)

execute = build_tracer(look_around.name, look_around, app=app)  # as a worker does

def run(name, actor=None, **headers):
    carried = {"brockman-context": json.dumps({"actor_id": actor})} if actor else {}
    with contextlib.suppress(GeneratorExit):
        execute(name, (), {}, {"id": name, **carried, **headers})

struck.add("struck")
run("struck", "ada")
run("next")
run("next", "bob")
run("next", is_eager=True, brockman_around="nonsense")
value = contexts.get()
print(json.dumps([seen, value and getattr(value, "actor_id", repr(value))]))
"""


@pytest.mark.parametrize("is_on", ["1", "0"])
def test_a_task_has_nothing_of_the_one_before_it(is_on: str) -> None:
    """Not even where a time limit struck between its end and ours, or a message has headers with our names."""
    ended = ran_python(LEFT_OVER, env=environment(FL_CELERY_CONTEXT=is_on))
    assert ended.status == 0, ended.err
    seen, left = json.loads(ended.out)
    assert seen[:3] == (["ada", None, "bob"] if is_on == "1" else [None, None, None])
    assert left in (None, "ada")  # of the thread between tasks: no task sees it


REQUESTS = """
import celery, json
from celery import signals
from django.http import HttpResponse
from django.urls import re_path

app = celery.Celery("app", broker="memory://")
sent = []

def view(request):
    app.send_task("any")
    return HttpResponse()

urlpatterns = [re_path("", view)]
from django.test import Client

@signals.before_task_publish.connect(weak=False)
def look(headers=None, **_):
    sent.append(headers["brockman-context"])

browser = Client()
cookies = [browser.get(path).cookies.get("fl_actor_id") for path in ("/first", "/again", "/private")]
print(json.dumps([cookies[0].value, cookies[1:], *map(json.loads, sent)]))
"""


def test_a_task_that_a_view_calls_has_its_visitor() -> None:
    """A new visitor gets a cookie, since the task may record; who is not tracked is not tracked in the task."""
    setting = (
        "ALLOWED_HOSTS=['*'], ROOT_URLCONF='__main__', FL_MAY_TRACK=lambda request: request.path != '/private',"
        " MIDDLEWARE=['brockman.django.middleware.FocusLabMiddleware']"
    )
    parts = REQUESTS.partition("from django.test")
    ended = ran_python(parts[0] + DJANGO.format(setting=setting) + "".join(parts[1:]), env=environment())
    assert ended.status == 0, ended.err
    visitor, other_cookies, first, again, private = json.loads(ended.out)
    assert first == again == {"actor_id": visitor}
    assert private == {"untracked": True}
    assert other_cookies == [None, None]


def test_a_project_without_celery_does_not_import_it() -> None:
    """`brockman.django` alone costs no import of a library that the project does not use."""
    ended = ran_python(DJANGO.format(setting="") + "import sys; print('celery' in sys.modules)", env=environment())
    assert (ended.out, ended.err) == ("False\n", "")


def test_a_module_of_a_project_may_be_named_celery() -> None:
    """It is not taken for the library: the project starts."""
    own = "import sys, types; sys.modules['celery'] = types.ModuleType('celery')\n"
    ended = ran_python(own + DJANGO.format(setting="") + "print('started')", env=environment())
    assert (ended.out, ended.err) == ("started\n", "")


def test_a_trigger_of_the_task_itself_carries_no_second_copy(redis_port: int, endpoint: dict[str, str]) -> None:
    """The actor of the context is in the trigger; only tasks that follow need a header."""
    with publisher(redis_conf(redis_port), **endpoint) as task, brockman.context(actor_id=7):
        task.delay(action="viewed", obj="page")
        task.apply_async((), {"action": "viewed", "obj": "page"}, link=task.s(action="viewed", obj="next"))
    first, second = messages(redis_port)
    assert trigger_of(first)["actor_id"] == trigger_of(second)["actor_id"] == "7"
    assert "brockman-context" not in first["headers"]
    assert second["headers"]["brockman-context"] == '{"actor_id": "7"}'
