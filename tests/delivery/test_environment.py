"""The environment: variables that were meant as settings are named, and a client with a transport needs no key."""

from __future__ import annotations

import subprocess
import sys

import pytest

from brockman.client import FocusLabClient
from brockman.delivery.environment import find_misspelt
from brockman.exceptions import ConfigurationError
from brockman.options.celery import CelerySettings
from brockman.options.table import Options
from brockman.transport.memory import MemoryTransport
from tests.support.client import KEY
from tests.support.programs import environment

CLIENTS = """
import logging
from brockman.client import FocusLabClient

class Recording(logging.StreamHandler):
    def emit(self, record):
        FocusLabClient(api_key="a third").close()
        super().emit(record)

logging.getLogger("brockman").addHandler(Recording())
for _ in range(3):
    FocusLabClient(api_key="a key").close()
FocusLabClient(api_key="another", flush_interval=2).close()
"""


def log_of(**variables: str) -> list[str]:
    """Return the lines that a process with these variables logs while it makes clients."""
    program = [sys.executable, "-c", CLIENTS]
    ended = subprocess.run(
        program, env=environment(**variables), capture_output=True, text=True, timeout=60, check=True
    )
    return ended.stderr.splitlines()


def test_a_variable_that_is_nearly_a_setting_is_named_once():
    """The first client of a process logs it with the name that was probably meant, and never its value.

    A handler that makes a client itself does no harm.
    """
    lines = log_of(FL_ENDPIONT="geheim", FL_APIKEY="geheim", FL_STUDIO_PATH="/opt/fl", FL_GZIP="1")
    assert sorted(lines) == [
        "brockman: the environment has 'FL_APIKEY', which is no setting; did you mean FL_API_KEY?",
        "brockman: the environment has 'FL_ENDPIONT', which is no setting; did you mean FL_ENDPOINT?",
    ]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("FL_ENDPIONT", "FL_ENDPOINT"),
        ("FL_ENDPOINTS", "FL_ENDPOINT"),
        ("FL_END_POINT", "FL_ENDPOINT"),
        ("FL_Endpoint", "FL_ENDPOINT"),
        ("FL_API_KEYS", "FL_API_KEY"),
        ("FL_ENABLE", "FL_ENABLED"),
        ("fl_endpoint", "FL_ENDPOINT"),
        ("FL__API_KEY", "FL_API_KEY"),
        ("FL_AIP_KEY", "FL_API_KEY"),
        ("FL_MAX_QUEUESIZES", "FL_MAX_QUEUE_SIZE"),
        ("FL_FLUSHINTERVAL", "FL_FLUSH_INTERVAL"),
        ("FL_FLUSH_INTERVAL_MS", "FL_FLUSH_INTERVAL"),
        ("FL_SPOOLDIR", "FL_SPOOL_DIR"),
        ("FL_CELERYMODE", "FL_CELERY_MODE"),
        ("FL_HANDLE_SIGTREM", "FL_HANDLE_SIGTERM"),
    ],
)
def test_a_slip_is_recognized(name, right):
    """Letters swapped, missing or added, underscores, a unit, or the wrong case."""
    assert find_misspelt([name]) == {name: right}


def test_nothing_else_is_named():
    """Neither settings, nor variables of other programs, whether they begin with FL_ or not."""
    ours = [f"FL_{name.upper()}" for table in (Options, CelerySettings) for name in table.names()]
    others = (
        "STUDIO_PATH HOME USER TOKEN ZIP MODE DEBUG LOG_LEVEL LICENSE_KEY API_URL API_TOKEN CACHE_DIR SERVER_URL"
        " ENV ENVIRONMENT WRITE_TIMEOUT SEND_TIMEOUT TIMEOUT API_KEY_ID API_KEY_PATH API_KEYCHAIN APP_KEY"
        " ENDPOINT_ID ENDPOINT_2 OLD_ENDPOINT DISABLED BATCH_SIZE MIN_BATCH_SIZE QUEUE_SIZE MAX_RETRIES ATTEMPTS"
        " ERROR INVALID ON_EXIT BEFORE_SEND HANDLE_SIGINT CELERY_QUEUE POOL_SIZE GZIP_LEVEL"
    )
    rest = ["FL_", "FLENDPOINT", "ENDPIONT", "PATH", "XFL_ENDPIONT", "FL_COOKIE_SECURE", "FL_SEND_IN_TESTS"]
    assert find_misspelt([*ours, *(f"FL_{name}" for name in others.split()), *rest]) == {}


@pytest.mark.parametrize("variables", [{}, {"FL_ENDPOINT": "http://collector.internal/"}], ids=["", "clear"])
def test_a_client_with_a_transport_needs_no_key(variables, monkeypatch):
    """No key goes anywhere, so none has to be made up, and plain http is nobody's concern."""
    monkeypatch.delenv("FL_API_KEY", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    transport = MemoryTransport()
    with FocusLabClient(transport=transport) as client:
        assert client.record_trigger("7", "viewed", "page")
        client.send_trigger("8", "viewed", "page")
        assert client.options.api_key is None
    assert sorted(trigger["actor_id"] for trigger in transport.triggers) == ["7", "8"]
    with pytest.raises(ConfigurationError, match="api_key is missing"):
        FocusLabClient(endpoint="https://focus.example/")


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (MemoryTransport, "the class MemoryTransport"),
        ("console", "a str"),
        (print, "a builtin_function_or_method"),
    ],
    ids=["class", "text", "function"],
)
def test_what_is_no_transport_is_refused(wrong, kind):
    """At once: the worker would fail with it for ever."""
    with pytest.raises(ConfigurationError, match=f"^transport is {kind}; it should be an object with the methods"):
        FocusLabClient(transport=wrong)


def test_a_key_that_is_given_with_a_transport_is_checked():
    """As are the other settings."""
    for wrong in ({"api_key": f"{KEY}\n{KEY}"}, {"api_key": KEY.encode()}, {"endpoint": "https://*.x/"}):
        with pytest.raises(ConfigurationError, match=f"^{next(iter(wrong))} is "):
            FocusLabClient(**wrong, transport=MemoryTransport())
    with FocusLabClient(KEY, transport=MemoryTransport()) as client:
        assert client.options.api_key.reveal() == KEY
