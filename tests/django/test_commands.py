"""`manage.py focuslab_check` and `focuslab_stats`: they print what happened."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.test.utils import override_settings

from brockman.django.client import DjangoFocusLabClient
from brockman.django.shared_stats import publish, publish_now_and_then
from tests.support.client import record
from tests.support.programs import drive, environment, find_program, free_port, running
from tests.support.server import RecordingServer, Reply
from tests.support.waiting import eventually

MANAGE = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
SETTINGS = """
import os
from pathlib import Path

SECRET_KEY = "not secret"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["brockman.django"]
MIDDLEWARE = ["brockman.django.middleware.FocusLabMiddleware"]
ROOT_URLCONF = "pages"
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "shared": {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": Path(__file__).parent / "cache",
    },
}
FL_STATS_CACHE = "shared"
FL_FLUSH_INTERVAL = 0.05
"""
PAGES = """
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def page(request):
    request.focuslab.record_trigger("viewed", "page")
    return HttpResponse("page")

urlpatterns = [path("", page)]
"""
SITE = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
# Answers pages as a server does, as a process of a kind.
PROCESS = """
import os, signal, sys
import site_
from django.test import Client
from brockman.django.client import DjangoFocusLabClient

def browse(count):
    for _ in range(count):
        assert Client().get("/").status_code == 200

kind, count = sys.argv[1], int(sys.argv[2])
if kind == "command":
    for _ in range(count):
        assert DjangoFocusLabClient().record_trigger(7, "viewed", "page")
    sys.exit()
browse(count)
if kind == "forks":
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            browse(count)
            sys.exit()
        children.append(child)
    assert all(os.waitpid(child, 0)[1] == 0 for child in children)
if kind == "killed":
    client = DjangoFocusLabClient()
    assert client.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project whose processes write their counts to files."""
    texts = {"manage": MANAGE, "settings": SETTINGS, "pages": PAGES, "site_": SITE, "process": PROCESS}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def run(command: str, *arguments: str, **options: Any) -> str:
    """Return the output of a command of `manage.py`."""
    out = io.StringIO()
    call_command(command, *arguments, stdout=out, no_color=True, **options)
    return out.getvalue()


# focuslab_check.


def test_check_says_that_triggers_arrive(project: RecordingServer) -> None:
    """One alone, and two together; a line for each step, with the source of each setting."""
    text = run("focuslab_check")
    assert text.endswith("\ntriggers arrive\n")
    assert f"endpoint {project.endpoint} (FL_ENDPOINT in the Django settings)" in text
    assert [request.is_array for request in project.requests] == [False, True]
    assert {(one["actor_id"], one["action"], one["object"]) for one in project.triggers} == {
        ("brockman-check", "checked", "connection")
    }
    assert run("focuslab_check", "--no-send", "--timeout", "5").endswith(": none was sent\n")
    assert json.loads(run("focuslab_check", "--json"))["ok"]
    for wrong in ("nan", "0", "-1"):
        with pytest.raises(CommandError, match=r"should be a number from 0\.1 to 3600"):
            run("focuslab_check", "--timeout", wrong)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(200, b"<!doctype html><title>Log in</title>"),
            "answers 200 (Log in): that is no answer of the API",
        ),
        (Reply(401), "the key is refused: {endpoint} answers 401: check api_key (FL_API_KEY)"),
        (Reply(404), "{endpoint} answers 404: check endpoint (FL_ENDPOINT)"),
    ],
    ids=lambda value: str(value.status) if isinstance(value, Reply) else "",
)
def test_check_says_what_was_answered(project: RecordingServer, reply: Reply, words: str) -> None:
    """As `brockman check` does, after one attempt."""
    project.respond = lambda request: reply
    with pytest.raises(CommandError, match=r"^nothing arrives because ") as caught:
        run("focuslab_check")
    assert words.format(endpoint=project.endpoint) in str(caught.value)
    assert caught.value.returncode == 1
    assert len(project.requests) == 1


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FL_ENABLED": False}, "enabled is off, so nothing is sent"),
        ({"FL_API_KEY": None}, "api_key is missing"),
        ({"FL_FLUSH_INTERVAL": "soon"}, "flush_interval is 'soon' (FL_FLUSH_INTERVAL in the Django settings)"),
        ({"FL_COOKIE_SAMESITE": "Maybe"}, "cookie_samesite is 'Maybe'"),
        ({"FL_STATS_CACHE": "nope"}, "There is no cache 'nope' for FL_STATS_CACHE. (brockman.E004)"),
    ],
)
def test_check_says_why_nothing_was_sent(
    project: RecordingServer, settings: dict[str, Any], words: str, debug: bool
) -> None:
    """It does not say that triggers arrive."""
    with override_settings(DEBUG=debug, **settings), pytest.raises(CommandError) as caught:
        run("focuslab_check")
    assert words in str(caught.value)
    assert caught.value.returncode == 2
    assert project.requests == []


def test_check_looks_without_a_trigger_that_before_record_drops(project: RecordingServer) -> None:
    """The way is examined all the same."""
    with (
        override_settings(FL_BEFORE_RECORD=lambda arguments: None),
        pytest.raises(CommandError, match=r"since none was sent, but .* is dropped by this client \(filtered\)"),
    ):
        run("focuslab_check")
    assert [request.method for request in project.requests] == ["GET"]


def test_check_warns_of_settings(project: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unknown ones, and those in the environment that the project's replace: each once."""
    monkeypatch.setenv("FL_GZIP", "1")
    monkeypatch.setenv("FL_ENDPIONT", "x")
    with override_settings(FL_GZIP=False, FL_FLUSH_INTREVAL=3):
        text = run("focuslab_check")
    assert "FL_GZIP in the environment has no effect: another value is in the Django settings; keep one" in text
    assert text.count("FL_ENDPIONT") == text.count("FL_FLUSH_INTREVAL") == 1
    assert text.endswith("triggers arrive; see the 3 warnings above\n")


def test_check_in_a_test_run_says_that_nothing_was_sent(project: RecordingServer, test_run: None) -> None:
    """Unless `FL_SEND_IN_TESTS` is on."""
    with pytest.raises(CommandError, match=r"this is a test run.*FL_SEND_IN_TESTS"):
        run("focuslab_check")
    assert project.requests == []
    with override_settings(FL_SEND_IN_TESTS=True):
        assert "triggers arrive" in run("focuslab_check")
    assert len(project.triggers) == 3


@pytest.mark.parametrize(
    "command",
    [["manage.py", "focuslab_check"], ["-m", "brockman", "check"]],
    ids=["manage.py", "brockman"],
)
def test_both_commands_say_the_same_of_a_project(
    server: RecordingServer, folder: Path, command: list[str]
) -> None:
    """`brockman check` reads the project that DJANGO_SETTINGS_MODULE names, in the current folder."""
    server.respond = lambda request: Reply(403, b"wrong key")
    with (folder / "settings.py").open("a") as settings:
        settings.write(f"FL_API_KEY = 'a key'\nFL_ENDPOINT = {server.endpoint!r}\n")
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment(DJANGO_SETTINGS_MODULE="settings"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    assert "api_key is set (FL_API_KEY in the Django settings)" in done.stdout
    words = f"nothing arrives because the key is refused: {server.endpoint} answers 403 (wrong key): check api_key"
    assert words in done.stdout + done.stderr
    assert "a key'" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_project_that_cannot_be_imported_is_a_warning(server: RecordingServer, tmp_path: Path) -> None:
    """`brockman check` goes on with the environment."""
    variables = environment(DJANGO_SETTINGS_MODULE="no_such", FL_API_KEY="a key", FL_ENDPOINT=server.endpoint)
    done = subprocess.run(
        [sys.executable, "-m", "brockman", "check"],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "the settings of DJANGO_SETTINGS_MODULE=no_such cannot be read (ModuleNotFoundError" in done.stdout


# focuslab_stats.


def files(place: Path) -> Any:
    """Settings with a cache of files, which processes share."""
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    return override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": place}}, FL_STATS_CACHE="default")


def left(place: Path) -> list[dict[str, Any]]:
    """Return the counts in such a cache, as `focuslab_stats --json` prints them."""
    with files(place):
        return [json.loads(line) for line in run("focuslab_stats", "--json").splitlines()]


def sums(place: Path) -> Counter[str]:
    """Return the sums over all processes."""
    total: Counter[str] = Counter()
    for process in left(place):
        stats = process["stats"]
        total.update(recorded=stats["recorded"], delivered=stats["delivered"])
        total.update(waiting=stats["queued"] + stats["in_flight"], dropped=sum(stats["dropped"].values()))
    return total


def test_stats_without_a_cache_are_those_of_the_process(project: RecordingServer) -> None:
    """The output names the setting that shows all processes."""
    client = DjangoFocusLabClient()
    record(client, 3)
    assert client.flush()
    text = run("focuslab_stats")
    assert "FL_STATS_CACHE" in text
    assert re.search(r"^all +3 +0 +3 +0 +0 +0$", text, re.MULTILINE), text
    assert json.loads(run("focuslab_stats", "--json"))["stats"]["recorded"] == 3


def test_stats_of_this_process_give_the_reasons_of_drops(project: RecordingServer) -> None:
    """With the counts by reason, and the last error."""
    project.respond = lambda request: Reply(400, b"no such field")
    client = DjangoFocusLabClient()
    record(client, 1)
    client.flush()
    client.record_trigger("", "viewed", "page")
    text = run("focuslab_stats")
    assert re.search(r"^all +2 +0 +0 +1 +1 +0$", text, re.MULTILINE), text
    assert re.search(r"^dropped: 1 invalid$", text, re.MULTILINE), text
    assert re.search(r"^last error: .*400", text, re.MULTILINE), text


def test_stats_before_anything_was_recorded(tmp_path: Path) -> None:
    """There is no empty table."""
    with files(tmp_path):
        assert "No process has recorded a trigger" in run("focuslab_stats")
        assert run("focuslab_stats", "--json") == ""


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"FL_STATS_CACHE": "default"}, "'default' of FL_STATS_CACHE is not shared by processes"),
        ({"FL_STATS_CACHE": "nope"}, "'nope' of FL_STATS_CACHE cannot be read: .*'nope' doesn't exist"),
        ({"FL_STATS_CACHE": 7}, "The settings are wrong: stats_cache is 7"),
        ({"FL_API_KEY": None, "DEBUG": True}, "The settings are wrong: api_key is missing"),
    ],
)
def test_stats_say_why_there_are_no_counts(settings: dict[str, Any], words: str) -> None:
    """Such as a cache that processes do not share."""
    with override_settings(**settings), pytest.raises(CommandError, match=words):
        run("focuslab_stats")


# No subclass of a cache that is private to the process, in the eyes of `focuslab_stats`.
class CountingCache:
    """A cache that counts the calls of its methods."""

    calls: Counter[str] = Counter()  # noqa: RUF012

    def __init__(self, name: str, parameters: dict[str, Any]) -> None:
        self._cache = LocMemCache(name, parameters)

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._cache, name)


class DeadCache(CountingCache):
    """A cache whose server is down."""

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "get_many", "set", "add"):
            raise ConnectionRefusedError("nobody listens")
        return super().__getattr__(name)


class SilentCache(CountingCache):
    """A cache that hides that its server is down, as clients of Redis and Memcached can."""

    def add(self, *_: Any, **__: Any) -> bool:
        return False

    set = add

    def get(self, key: str, default: Any = None) -> Any:
        return default


@pytest.fixture
def counting() -> Iterator[Counter[str]]:
    """The counts are written to a cache that counts calls."""
    place = {"BACKEND": f"{__name__}.CountingCache", "LOCATION": "counting"}
    with override_settings(CACHES={"default": place}, FL_STATS_CACHE="default"):
        CountingCache.calls.clear()
        yield CountingCache.calls


@pytest.mark.parametrize(
    ("kind", "error"), [("DeadCache", "ConnectionRefusedError"), ("SilentCache", "RuntimeError")]
)
def test_a_cache_that_is_down_makes_no_page_fail(
    project: RecordingServer, caplog: pytest.LogCaptureFixture, kind: str, error: str
) -> None:
    """Nor wait; one log line reports it."""
    publish()  # without it
    place = {"BACKEND": f"{__name__}.{kind}", "LOCATION": ""}
    with override_settings(CACHES={"default": place}, FL_STATS_CACHE="default"):
        with caplog.at_level(logging.WARNING, "brockman"):
            for _ in range(3):
                assert Client().get("/page/").status_code == 200
                publish()
        lines = [line for line in caplog.messages if "cannot write the counts" in line]
        assert lines == [f"brockman: cannot write the counts to the cache: {error}"]


def test_stats_say_that_the_cache_is_down() -> None:
    """It does not say that there are no counts."""
    place = {"BACKEND": f"{__name__}.DeadCache", "LOCATION": ""}
    with (
        override_settings(CACHES={"default": place}, FL_STATS_CACHE="default"),
        pytest.raises(CommandError, match="cannot be read: ConnectionRefusedError"),
    ):
        run("focuslab_stats")


def test_the_counts_are_written_every_few_seconds(project: RecordingServer, counting: Counter[str]) -> None:
    """A hundred requests write once at most."""
    publish()
    assert Client().get("/page/").status_code == 200
    counting.clear()
    started = time.monotonic()
    for _ in range(100):
        assert Client().get("/page/").status_code == 200
    assert counting.total() == 0 or time.monotonic() - started > 4


def test_a_request_only_reads_the_clock(project: RecordingServer) -> None:
    """Without FL_STATS_CACHE, and between two writes: no setting is read."""
    publish()
    called: set[str] = set()
    sys.setprofile(lambda frame, event, argument: called.add(frame.f_code.co_name))
    try:
        for _ in range(100):
            publish_now_and_then()
    finally:
        sys.setprofile(None)
    assert called - {"test_a_request_only_reads_the_clock"} == {"publish_now_and_then", "get", "monotonic"}


def test_an_idle_process_writes_its_final_counts(
    project: RecordingServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triggers that waited after the last request are shown as delivered later, without another request."""
    monkeypatch.setattr("brockman.django.shared_stats._EVERY", 0.2)
    with files(tmp_path), override_settings(FL_FLUSH_INTERVAL=0.3):
        assert Client().get("/page/").status_code == 200
        assert sums(tmp_path)["waiting"] == 1
        assert eventually(lambda: sums(tmp_path) == {"recorded": 1, "delivered": 1, "waiting": 0, "dropped": 0})


def test_threads_of_a_process_count_once(project: RecordingServer, counting: Counter[str]) -> None:
    """Eight threads that write at once write one set of counts."""
    client = DjangoFocusLabClient()
    record(client, 5)
    assert client.flush()
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        publish()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (line,) = run("focuslab_stats", "--json").splitlines()
    assert json.loads(line)["stats"]["recorded"] == 5


def test_the_counts_come_back_after_the_cache_was_cleared(project: RecordingServer, tmp_path: Path) -> None:
    """With the next write."""
    from django.core.cache import cache

    client = DjangoFocusLabClient()
    record(client, 5)
    assert client.flush()
    with files(tmp_path):
        for _ in range(2):
            publish()
            assert sums(tmp_path)["recorded"] == 5
            cache.clear()
            assert sums(tmp_path)["recorded"] == 0


def test_two_processes_with_one_number_take_others(project: RecordingServer, tmp_path: Path) -> None:
    """In a cache of files two processes may take one number: with the next write, both are counted."""
    from django.core.cache import cache

    client = DjangoFocusLabClient()
    record(client, 5)
    assert client.flush()
    with files(tmp_path):
        publish()
        names = [f"brockman:stats:2:{number}" for number in range(100)]
        (name,) = (name for name in names if cache.get(name))
        cache.set(name, {**cache.get(name), "owner": "another", "pid": 1})
        cache.set("brockman:last", 0)
        publish()
        assert sums(tmp_path)["recorded"] == 10
        assert {process["pid"] for process in left(tmp_path)} == {1, os.getpid()}


def test_the_sums_over_processes_are_what_the_server_received(server: RecordingServer, folder: Path) -> None:
    """Of a process killed after its first write, and of some that start together, with forked children."""
    command = [sys.executable, "process.py"]
    environment = {**os.environ, "FL_API_KEY": "a key", "FL_ENDPOINT": server.endpoint}

    def start(kind: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, kind, "20"], cwd=folder, env=environment)

    with start("killed") as killed:
        assert killed.wait(60) == -signal.SIGKILL
    kinds = ["plain", "forks", "plain"]
    for process in [start(kind) for kind in kinds]:
        with process:
            assert process.wait(60) == 0
    count = 1 + len(kinds) + 3
    assert len(server.triggers) == 20 * count
    found = left(folder / "cache")
    assert len({process["pid"] for process in found}) == len(found) == count
    alive = [process["stats"] for process in found if process["pid"] != killed.pid]
    assert [stats["delivered"] for stats in alive] == [20] * len(alive)
    (last,) = (process["stats"] for process in found if process["pid"] == killed.pid)
    assert 1 <= last["recorded"] <= 20  # as it was when it wrote last
    with files(folder / "cache"):
        text = run("focuslab_stats")
    assert len(text.splitlines()) == len(found) + 2
    assert re.search(rf"{killed.pid} .* s ago$", text, re.MULTILINE)


def test_a_command_writes_its_counts_at_exit(server: RecordingServer, folder: Path) -> None:
    """Without requests, the exit hook writes them, after everything was delivered."""
    environment = {**os.environ, "FL_API_KEY": "a key", "FL_ENDPOINT": server.endpoint}
    command = [sys.executable, "process.py", "command", "10"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=60)
    assert len(server.triggers) == 10
    assert sums(folder / "cache") == {"recorded": 10, "delivered": 10, "waiting": 0, "dropped": 0}


def test_the_last_counts_of_a_worker_are_the_final_ones(server: RecordingServer, folder: Path) -> None:
    """Under gunicorn with recycled workers, the sums are what was recorded and what the server received."""
    port = free_port()
    command = [find_program("gunicorn"), "--bind", f"127.0.0.1:{port}", "--workers", "2", "--threads", "2"]
    command += ["--max-requests", "20", "--max-requests-jitter", "5", "--no-control-socket", "site_:application"]
    with running(command, folder, server, port) as started:
        assert drive(port, 200) == 200, started.text()
        started.stop()
    assert eventually(lambda: len(server.triggers) >= 200)
    found = left(folder / "cache")
    assert len(found) >= 5, started.text()
    assert sums(folder / "cache") == {"recorded": 200, "delivered": 200, "waiting": 0, "dropped": 0}
    assert len(server.triggers) == len(server.ids()) == 200
