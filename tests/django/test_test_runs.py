"""The tests of a project send nothing unless `FL_SEND_IN_TESTS` is on; what they record can be read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.test.utils import override_settings

from brockman.client import FocusLabClient
from brockman.django.client import DjangoFocusLabClient
from brockman.testing import capture
from tests.support.client import KEY, record
from tests.support.server import RecordingServer

SETTINGS = """
SECRET_KEY = "not secret"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "brockman.django", "shop"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "shop.urls"
USE_TZ = True
"""
URLS = """
from django.http import HttpResponse
from django.urls import path

from brockman.client import FocusLabClient
from brockman.django.client import DjangoFocusLabClient

client = DjangoFocusLabClient()

def buy(request):
    client.record_trigger(7, "bought", "book")
    DjangoFocusLabClient().record_trigger_on_commit(7, "paid", "book")
    return HttpResponse()

urlpatterns = [path("buy/", buy)]
"""
TESTS = """
from django.test import TestCase

from brockman.testing import capture


class BuyTest(TestCase):
    def test_page(self):
        assert self.client.get("/buy/").status_code == 200

    def test_trigger(self):
        with capture() as outbox, self.captureOnCommitCallbacks(execute=True):
            self.client.get("/buy/")
        outbox.assert_recorded(action="bought", times=1)
        outbox.assert_recorded(action="paid", times=1)
"""
PYTESTS = """
import pytest

@pytest.mark.django_db(transaction=True)
def test_trigger(client, focuslab_outbox):
    client.get("/buy/")
    assert [trigger.action for trigger in focuslab_outbox] == ["bought", "paid"]

def test_without_a_key(client, settings, focuslab_outbox, db):
    settings.FL_API_KEY = None
    client.get("/buy/")
    focuslab_outbox.assert_recorded(action="bought", times=1)

def test_page(client, db):
    assert client.get("/buy/").status_code == 200
"""


@pytest.fixture
def shop(tmp_path: Path, server: RecordingServer) -> Path:
    """A project with a real key."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "urls.py").write_text(URLS)
    (tmp_path / "shop" / "settings.py").write_text(
        f"{SETTINGS}\nFL_API_KEY = {KEY!r}\nFL_ENDPOINT = {server.endpoint!r}\n"
    )
    return tmp_path


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a program of the project that must succeed; return its output."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command],
        cwd=folder,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop.settings", **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def test_manage_py_test_sends_nothing(shop, server):
    """Despite a real key; and `capture()` has the triggers."""
    (shop / "shop" / "tests.py").write_text(TESTS)
    assert "Ran 2 tests" in run(shop, "django", "test")
    assert server.requests == []


def test_parallel_tests_send_nothing(shop, server):
    """In the forked workers of the test runner."""
    (shop / "shop" / "tests.py").write_text(TESTS)
    (shop / "shop" / "test_more.py").write_text(TESTS.replace("BuyTest", "OtherTest"))
    assert "Ran 4 tests" in run(shop, "django", "test", "--parallel=2")
    assert server.requests == []


def test_pytest_sends_nothing(shop, server):
    """The fixture `focuslab_outbox` works with pytest-django, also without a key."""
    pytest.importorskip("pytest_django")
    (shop / "test_shop.py").write_text(PYTESTS)
    assert "3 passed" in run(shop, "pytest", "-q", "-p", "no:cacheprovider")
    assert server.requests == []


EARLY = """
from shop.urls import client as focuslab

def test_page(client, db):
    assert client.get("/buy/").status_code == 200
    assert focuslab.flush()
"""


@pytest.mark.parametrize("early", ["", "client.record_trigger(1, 'started', 'site')", "print(client)"])
def test_a_client_that_is_used_before_the_tests_begin_sends_nothing(shop, server, early):
    """Such as while a module is imported, or collected by pytest."""
    (shop / "test_early.py").write_text(EARLY)
    with (shop / "shop" / "urls.py").open("a") as urls:
        urls.write(early)
    assert "1 passed" in run(shop, "pytest", "-q", "-p", "no:cacheprovider")
    assert server.requests == []


OTHER = """
import django
django.setup()
from shop.urls import client
client.record_trigger(1, "started", "worker")
assert client.flush()
"""


def test_another_program_with_the_argument_test_is_no_test_run(shop, server):
    """Only Django's own command `test` is."""
    (shop / "worker.py").write_text(OTHER)
    run(shop, "worker", "test")
    assert [trigger["action"] for trigger in server.triggers] == ["started"]


def test_tests_send_when_the_setting_is_on(shop, server):
    """`FL_SEND_IN_TESTS = True`, to test against a collector."""
    (shop / "shop" / "tests.py").write_text(TESTS)
    run(shop, "django", "test", FL_SEND_IN_TESTS="1")
    assert [trigger["action"] for trigger in server.triggers] == ["bought"]


def test_sending_can_be_switched_on_for_one_test(project, test_run):
    """`override_settings` does it, also for plain clients; afterwards nothing is sent again."""
    client, plain = DjangoFocusLabClient(), FocusLabClient(KEY, endpoint=project.endpoint)
    record(client, 1)
    record(plain, 1, start=1)
    assert project.requests == []
    with override_settings(FL_SEND_IN_TESTS=True):
        record(client, 1, start=2)
        assert client.flush()
        with capture() as outbox:
            record(client, 1, start=3)
        assert len(outbox) == 1
    record(client, 1, start=4)
    assert client.flush()
    assert [trigger["variables"]["n"] for trigger in project.triggers] == [2]


def test_the_memory_backend_for_mail_makes_no_test_run(project: RecordingServer) -> None:
    """A staging server with Django's memory backend for mail sends its triggers."""
    try:
        EmailBackend()
        assert mail.outbox == []
        record(DjangoFocusLabClient(), 1)
        assert DjangoFocusLabClient().flush()
        assert len(project.triggers) == 1
    finally:
        del mail.outbox
