"""A Django project in this process: not a test run in Django's eyes, `DEBUG` off, as in production."""

from __future__ import annotations

from collections.abc import Iterator

import django
import pytest
from django.conf import settings
from django.core.cache import caches
from django.db import connections
from django.test.utils import override_settings, setup_test_environment, teardown_test_environment

from brockman.django import shared_stats, test_runs
from brockman.process import registry
from brockman.process.fork import PerProcess
from tests.support.client import KEY
from tests.support.server import RecordingServer

test_runs.PYTEST_PLUGIN = "no.such.module"  # what runs here is no test run, although pytest runs

if not settings.configured:
    settings.configure(
        SECRET_KEY="not secret",
        ALLOWED_HOSTS=["*"],
        DATABASES={
            alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"} for alias in ("default", "other")
        },
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "brockman.django"],
        MIDDLEWARE=["brockman.django.middleware.FocusLabMiddleware"],
        ROOT_URLCONF="tests.django.urls",
        USE_TZ=True,
        FL_API_KEY=KEY,
    )
    django.setup()


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    connections.close_all()
    caches.close_all()


@pytest.fixture
def project(server: RecordingServer) -> Iterator[RecordingServer]:
    """The project's settings lead to the recording server, with a short interval."""
    with override_settings(FL_ENDPOINT=server.endpoint, FL_FLUSH_INTERVAL=0.05):
        yield server
        registry.restart_all()  # or each thread waits a second for another client


@pytest.fixture(autouse=True)
def _is_a_site() -> Iterator[None]:
    yield
    shared_stats._slot = PerProcess(shared_stats._Slot)  # a cache that failed would not be written for minutes
    _forget_test_run()


def _forget_test_run() -> None:
    test_runs.STATE.is_one = False
    test_runs.send_nowhere(on=False)


@pytest.fixture
def test_run() -> Iterator[None]:
    """A test run in Django's eyes."""
    setup_test_environment()
    yield
    teardown_test_environment()
