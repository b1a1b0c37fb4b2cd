"""System checks: each reports a mistake before the first trigger, and how to correct it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.test.utils import override_settings
from django.utils.functional import SimpleLazyObject

from brockman.django import checks
from brockman.django.client import DjangoFocusLabClient
from brockman.django.settings import DjangoSettings
from tests.support.programs import find_program, free_port, running
from tests.support.server import RecordingServer
from tests.support.waiting import eventually

MIDDLEWARE = "brockman.django.middleware.FocusLabMiddleware"
BACKENDS = "django.core.cache.backends"
CACHES = {
    "default": {"BACKEND": f"{BACKENDS}.locmem.LocMemCache"},
    "none": {"BACKEND": f"{BACKENDS}.dummy.DummyCache"},
    "files": {"BACKEND": f"{BACKENDS}.filebased.FileBasedCache", "LOCATION": "/nowhere/at/all"},
}


async def may_track_async(request: Any) -> bool:
    """A wrong FL_MAY_TRACK."""
    return True


class AsyncCall:
    """Another wrong FL_MAY_TRACK."""

    async def __call__(self, request: Any) -> bool:
        return True


class Odd(int):
    """A number that can be neither compared nor shown."""

    def __ge__(self, other: object) -> bool:
        raise OverflowError

    __repr__ = __le__ = __ge__  # type: ignore[assignment]


def found(*, deploy: bool = False, **settings: Any) -> list[CheckMessage]:
    """Return the messages of this app's checks for a project with these settings."""
    with override_settings(**settings):
        messages = run_checks(include_deployment_checks=deploy)
    return [message for message in messages if (message.id or "").startswith("brockman.")]


PLAIN = "http://focus.example/"
# The settings, the id, what the message says, and what the hint says.
WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"FL_API_KEY": ""}, "E001", "FL_API_KEY is missing", "FL_ENABLED = False"),
    ({"FL_API_KEY": None}, "E001", "FL_API_KEY is missing", "FL_ENABLED = False"),
    ({"FL_FLUSH_INTERVAL": "soon"}, "E002", "flush_interval is 'soon'; it should be", "Correct FL_FLUSH_INTERVAL"),
    ({"FL_API_KEY": 7}, "E002", "api_key is not usable", "Correct FL_API_KEY"),
    ({"FL_ON_DROP": "no.such.function"}, "E002", "FL_ON_DROP is 'no.such.function'", "Correct FL_ON_DROP"),
    ({"FL_MAY_TRACK": "shop.absent"}, "E002", "FL_MAY_TRACK is 'shop.absent'", "Correct FL_MAY_TRACK"),
    ({"FL_COOKIE_SAMESITE": "lax"}, "E002", "one of 'Lax', 'Strict', 'None'", "Correct FL_COOKIE_SAMESITE"),
    ({"FL_CELERY_MODE": "fast"}, "E002", "celery_mode is 'fast'", "Correct FL_CELERY_MODE"),
    ({"FL_ENDPOINT": "https://*.x/"}, "E002", "endpoint is 'https://*.x/'; it should be", "Correct FL_ENDPOINT"),
    ({"FL_ENDPOINT": PLAIN}, "E003", "would travel in clear to focus.example", "https:// in FL_ENDPOINT"),
    ({"FL_STATS_CACHE": "nope"}, "E004", "no cache 'nope'", "default, none, files"),
    ({"FL_MAY_TRACK": may_track_async}, "E005", "FL_MAY_TRACK is asynchronous", "plain function"),
    ({"FL_ENDPOINT": PLAIN, "FL_ALLOW_INSECURE": True}, "W001", f"in clear to {PLAIN}", "https:// in FL_ENDPOINT"),
    ({"FL_ENDPONT": "x"}, "W002", "no setting FL_ENDPONT", "Did you mean FL_ENDPOINT?"),
    ({"FL_CELERYMODE": "x"}, "W002", "no setting FL_CELERYMODE", "Did you mean FL_CELERY_MODE?"),
    ({"FL_QQQQQQ": "x"}, "W002", "no setting FL_QQQQQQ", "silence"),
    ({"FL_COOKIE_SAMESITE": "None"}, "W005", "SameSite=None that is not Secure", "FL_COOKIE_SECURE = True"),
    (
        {"FL_SPOOL_DIR": "/dev/null/spool"},
        "W004",
        "/dev/null is not a directory",
        "create and write the folder of FL_SPOOL_DIR",
    ),
    ({"FL_STATS_CACHE": "default"}, "W006", "'default' is not shared by processes", "Redis"),
    ({"FL_STATS_CACHE": "none"}, "W006", "'none' is not shared by processes", "Redis"),
    ({"MIDDLEWARE": [MIDDLEWARE] * 2}, "W011", "in MIDDLEWARE twice", "Remove the second"),
    ({"FL_COOKIE_DOMAIN": "https://example.com"}, "E002", "a domain of ASCII letters", "Correct FL_COOKIE_DOMAIN"),
    ({"FL_COOKIE_DOMAIN": "münchen.example"}, "E002", "a domain of ASCII letters", "Correct FL_COOKIE_DOMAIN"),
    (
        {"FL_MAX_QUEUE_SIZE": 10**5000},
        "E002",
        "max_queue_size is a value of type int",
        "Correct FL_MAX_QUEUE_SIZE",
    ),
    ({"FL_MAX_QUEUE_SIZE": Odd()}, "E002", "reading it raised OverflowError", "Correct FL_MAX_QUEUE_SIZE"),
    ({"FL_API_KEY": SimpleLazyObject(lambda: 1 // 0)}, "E002", "raised ZeroDivisionError", "Correct FL_API_KEY"),
    ({"FL_MAY_TRACK": AsyncCall()}, "E005", "FL_MAY_TRACK is asynchronous", "plain function"),
]
WRONG_WHEN_DEPLOYED: list[tuple[dict[str, Any], str, str, str]] = [
    (
        {"FL_ENDPOINT": "http://localhost:8080/"},
        "W008",
        "FL_ENDPOINT is http://localhost:8080/",
        "Leave it out",
    ),
    ({"FL_ENABLED": False}, "W009", "FL_ENABLED is off", "Remove it"),
    ({"FL_ON_INVALID": "raise"}, "W010", "FL_ON_INVALID = 'raise' lets tracking", "Leave it out"),
    ({"FL_OVERFLOW": "raise"}, "W010", "FL_OVERFLOW = 'raise' lets tracking", "Leave it out"),
    ({"FL_OVERFLOW": "block"}, "W010", "FL_OVERFLOW = 'block' lets tracking", "Leave it out"),
]


@pytest.mark.parametrize(("settings", "name", "words", "hint"), WRONG)
def test_a_mistake_is_reported_with_a_hint(settings: dict[str, Any], name: str, words: str, hint: str) -> None:
    """One mistake, one message."""
    (message,) = found(**{"CACHES": CACHES, **settings})
    assert message.id == f"brockman.{name}"
    assert words in message.msg
    assert hint in message.hint
    assert message.is_serious() == name.startswith("E")


@pytest.mark.parametrize(("settings", "name", "words", "hint"), WRONG_WHEN_DEPLOYED)
def test_check_deploy_reports_more(settings: dict[str, Any], name: str, words: str, hint: str) -> None:
    """Without `--deploy` it is no mistake."""
    assert found(**settings) == []
    (message,) = found(deploy=True, **settings)
    assert message.id == f"brockman.{name}"
    assert words in message.msg
    assert hint in message.hint
    assert not message.is_serious()


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"DEBUG": True},
        {"MIDDLEWARE": []},
        {"FL_STATS_CACHE": "files", "CACHES": CACHES},
        {"FL_COOKIE_SAMESITE": "None", "FL_COOKIE_SECURE": True, "FL_COOKIE_DOMAIN": ".example.com"},
        {"FL_MAY_TRACK": "brockman.django.consent.without_objection"},
        {"FL_CELERY_MODE": "confirmed", "FL_ON_INVALID": "drop", "FL_OVERFLOW": "drop_oldest"},
        {"FL_FLUSH_INTERVAL": "0.5", "FL_GZIP": "on", "FL_HANDLE_SIGTERM": False},
    ],
)
def test_right_settings_have_no_messages(settings: dict[str, Any], deploy: bool) -> None:
    """With `--deploy` and without."""
    assert found(deploy=deploy, **settings) == []


def test_a_disabled_client_needs_no_key() -> None:
    """`FL_ENABLED = False` suffices."""
    assert found(FL_API_KEY=None, FL_ENABLED=False) == []


def test_a_test_run_needs_no_key(test_run: None) -> None:
    """Unless `FL_SEND_IN_TESTS` is on."""
    assert found(FL_API_KEY=None) == []
    (message,) = found(FL_API_KEY=None, FL_SEND_IN_TESTS=True)
    assert message.id == "brockman.E001"


def test_the_environment_counts_as_the_settings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key there is enough, and a wrong value there is reported."""
    monkeypatch.setenv("FL_API_KEY", "of the environment")
    assert found(FL_API_KEY=None) == []
    monkeypatch.setenv("FL_MAX_BATCH_SIZE", "many")
    (message,) = found()
    assert (message.id, message.hint) == ("brockman.E002", "Correct FL_MAX_BATCH_SIZE.")
    assert found(FL_MAX_BATCH_SIZE=10) == []


def test_a_variable_that_is_nearly_a_setting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """W002, and nothing for the variables of other programs; the client logs it too, once."""
    monkeypatch.setenv("FL_MAY_TRAK", "shop.consent")
    monkeypatch.setenv("FL_STUDIO_PATH", "/opt/fl")
    (message,) = found()
    assert (message.id, message.msg) == (
        "brockman.W002",
        "There is no setting FL_MAY_TRAK, which is in the environment.",
    )
    assert message.hint == "Did you mean FL_MAY_TRACK?"


def test_a_function_may_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its dotted path; a missing function is reported, or everybody would be tracked."""
    monkeypatch.setenv("FL_MAY_TRACK", "brockman.django.consent.without_objection")
    assert found() == []
    monkeypatch.setenv("FL_MAY_TRACK", "shop.consent.may_track")
    (message,) = found()
    assert message.id == "brockman.E002"
    assert "FL_MAY_TRACK is 'shop.consent.may_track'; it should be a function" in message.msg


def test_a_lazy_key_is_a_key(project: RecordingServer) -> None:
    """As with a secret manager."""
    with override_settings(FL_API_KEY=SimpleLazyObject(lambda: "late")):
        assert found() == []
        assert DjangoFocusLabClient().record_trigger(7, "viewed", "page")
        assert DjangoFocusLabClient().flush()
    assert project.requests[0].headers["x-fl-api-key"] == "late"


def test_all_mistakes_are_reported() -> None:
    """In one run."""
    messages = found(FL_API_KEY=None, FL_GZIP="perhaps", FL_COOKIE_SAMESITE="lax", FL_NAME="x")
    assert sorted(message.id for message in messages) == ["brockman.E002", "brockman.E002", "brockman.W002"]
    messages = found(FL_API_KEY=None, FL_COOKIE_SAMESITE="lax", FL_NAME="x")
    assert sorted(message.id for message in messages) == ["brockman.E001", "brockman.E002", "brockman.W002"]


def test_no_message_shows_the_key() -> None:
    """Nor a wrong key."""
    (message,) = found(FL_API_KEY="geheim\ngeheim")
    assert "geheim" not in f"{message.msg} {message.hint}"
    (message,) = found(FL_ENDPOINT="geheim")
    assert "geheim" not in f"{message.msg} {message.hint}"
    assert found(FL_API_KEY="geheim\n") == []


def test_celery_settings_without_celery_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """W007."""
    monkeypatch.setitem(sys.modules, "celery", None)
    assert found() == []
    (message,) = found(FL_CELERY_MODE="confirmed", FL_CELERY_FALLBACK=True)
    assert message.id == "brockman.W007"
    assert message.msg == "FL_CELERY_FALLBACK, FL_CELERY_MODE is set, but Celery is not installed."
    assert "brockman[celery]" in message.hint


def test_manage_check_fails_for_errors_and_not_for_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """So a deployment stops at an error; `SILENCED_SYSTEM_CHECKS` works."""
    with override_settings(FL_API_KEY=None), pytest.raises(SystemCheckError, match=r"brockman\.E001"):
        call_command("check")
    with override_settings(FL_NAME="x"):
        call_command("check")
        assert "(brockman.W002) There is no setting FL_NAME." in capsys.readouterr().err
    with override_settings(FL_NAME="x", SILENCED_SYSTEM_CHECKS=["brockman.W002"]):
        call_command("check")
        assert "FL_NAME" not in capsys.readouterr().err


def test_every_id_is_tested() -> None:
    """Each id has a test above."""
    written = re.findall(r'id="brockman\.(\w+)"', Path(checks.__file__).read_text())
    assert set(written) == {name for _, name, *_ in WRONG + WRONG_WHEN_DEPLOYED} | {"W003", "W007"}
    assert {f"FL_{name.upper()}" for name in DjangoSettings.names()} >= {"FL_MAY_TRACK", "FL_STATS_CACHE"}


APP = """
import json, os
import django
from django.conf import settings
from django.core.checks import run_checks

settings.configure(INSTALLED_APPS=["brockman.django"])
django.setup()
messages = [(message.id, message.msg, message.hint) for message in run_checks()]
with open("found.new", "w") as file:
    json.dump(messages, file)
os.replace("found.new", "found")

def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


def found_in_uwsgi(folder: Path, server: RecordingServer, *command: str, **environment: str) -> list[list[str]]:
    """Return the messages of the checks inside uWSGI."""
    (folder / "app.py").write_text(APP)
    arguments = ["--http-socket", f"127.0.0.1:{free_port()}", "--module", "app", "--virtualenv", sys.prefix]
    with running([*command, *arguments, "--need-app"], folder, server, **environment) as started:
        assert eventually((folder / "found").exists, 60), started.text()
        return json.loads((folder / "found").read_text())


@pytest.mark.skipif(sys.platform != "linux", reason="uWSGI is tested on Linux")
def test_uwsgi_without_threads_is_reported(server: RecordingServer, tmp_path: Path) -> None:
    """W003, with the missing switch, which is enough. See `tests/servers/test_uwsgi.py` for the old uWSGI."""
    place = os.environ.get("UWSGI_WITHOUT_THREADS")
    if not place:
        pytest.skip("UWSGI_WITHOUT_THREADS names no uWSGI that is older than 2.0.27")
    command, path = [sys.executable, f"{place}/bin/uwsgi"], f".:{place}"
    ((name, words, hint),) = found_in_uwsgi(tmp_path, server, *command, PYTHONPATH=path)
    assert name == "brockman.W003"
    assert "uWSGI runs without threads" in words
    assert hint == "Start uWSGI with --enable-threads."
    (tmp_path / "found").unlink()
    assert found_in_uwsgi(tmp_path, server, *command, "--enable-threads", PYTHONPATH=path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="uWSGI is tested on Linux")
def test_a_current_uwsgi_needs_no_option(server: RecordingServer, tmp_path: Path) -> None:
    """It starts with threads."""
    assert found_in_uwsgi(tmp_path, server, find_program("uwsgi")) == []


WITHOUT_CELERY = """
import sys
sys.modules["celery"] = None  # as if it were not installed
import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["brockman.django"], FL_API_KEY="a key")
django.setup()
from django.core.management import call_command
call_command("check")
from brockman.django.middleware import FocusLabMiddleware
"""


def test_celery_is_not_needed() -> None:
    """The checks and the middleware work without it."""
    result = subprocess.run([sys.executable, "-c", WITHOUT_CELERY], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")
    assert "no issues" in result.stdout
