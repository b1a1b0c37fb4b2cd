"""`DjangoFocusLabClient`: options from settings, mistakes that make no page fail, values of views."""

from __future__ import annotations

import copy
import datetime
import gc
import logging
import threading
import traceback
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.test.utils import override_settings
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from brockman.client import FocusLabClient
from brockman.django.client import DjangoFocusLabClient
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.options import Options
from brockman.options.fields import function
from brockman.transport.memory import MemoryTransport
from tests.options.test_table import DEFAULTS, SPECS, sample, shown
from tests.support.client import KEY, law_holds, record
from tests.support.server import RecordingServer
from tests.support.shown import shown_by
from tests.support.waiting import eventually

DROPPED: list[tuple[str, bytes | None]] = []


def note_drop(reason: str, body: bytes | None) -> None:
    """Keep what FL_ON_DROP is called with."""
    DROPPED.append((reason, body))


# Settings.


@pytest.mark.parametrize("name", [name for name in Options.names() if name != "handle_sigterm"])
def test_every_option_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`FL_<NAME>` sets what the keyword sets; a keyword overrides it, and it overrides the environment."""
    value, setting = sample(name), f"FL_{name.upper()}"
    if not callable(value):
        monkeypatch.setenv(setting, str(DEFAULTS[name]) if DEFAULTS[name] is not None else "of the environment")
    with override_settings(**{setting: value}):
        assert shown(getattr(DjangoFocusLabClient().options, name)) == value
        if name != "api_key":
            by_keyword = DjangoFocusLabClient(**{name: DEFAULTS[name]})
            assert getattr(by_keyword.options, name) == DEFAULTS[name]


def test_sigterm_is_handled_by_setting() -> None:
    """This option needs the main thread."""
    import signal

    before = signal.getsignal(signal.SIGTERM)
    try:
        with override_settings(FL_HANDLE_SIGTERM=True):
            assert DjangoFocusLabClient().options.handle_sigterm
            assert signal.getsignal(signal.SIGTERM) is not before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_key_may_be_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that is missing or empty is read from the environment."""
    monkeypatch.setenv("FL_API_KEY", "of the environment")
    with override_settings(FL_API_KEY=""):
        assert shown(DjangoFocusLabClient().options.api_key) == "of the environment"


@pytest.mark.parametrize("name", [spec.name for spec in SPECS if spec.metadata["check"] is function])
def test_a_function_is_named_by_its_dotted_path(name: str) -> None:
    """Settings files import nothing of the project."""
    with override_settings(**{f"FL_{name.upper()}": "tests.django.test_client.note_drop"}):
        assert getattr(DjangoFocusLabClient().options, name) is note_drop


def test_the_settings_are_read_with_the_first_use(project) -> None:
    """A client at module level is made before the settings are final."""
    with override_settings(FL_API_KEY="", FL_ENDPOINT="nonsense"):
        client = DjangoFocusLabClient()
    assert client.record_trigger(1, "viewed", "page")
    assert client.flush().delivered == 1
    assert len(project.triggers) == 1


def test_override_settings_holds_for_clients_in_use(project) -> None:
    """Also for a client that has read the settings before; the old settings apply again afterwards."""
    client = DjangoFocusLabClient()
    record(client, 2)
    with override_settings(FL_ENABLED=False):
        assert not client.record_trigger(1, "viewed", "page")
        assert client.stats().dropped == {"disabled": 1}
    with override_settings(FL_MAX_TRIGGER_BYTES=10):
        assert not client.record_trigger(1, "viewed", "page")
    record(client, 2, start=2)
    assert client.flush()
    assert eventually(lambda: len(project.triggers) == 4)
    assert {trigger["variables"]["n"] for trigger in project.triggers} == {0, 1, 2, 3}


def test_clients_made_in_views_share_one_buffer(project) -> None:
    """Thousands of clients share one buffer and one thread, and lose nothing."""
    for number in range(3000):
        record(DjangoFocusLabClient(), 1, start=number)
    assert sum(thread.name == "brockman-worker" for thread in threading.enumerate()) <= 1
    client = DjangoFocusLabClient()
    assert client.flush()
    assert client.stats().delivered == 3000
    assert set(project.ids().values()) == {1}
    assert isinstance(client, FocusLabClient)
    assert "DjangoFocusLabClient" in repr(client)


def test_threads_may_use_a_new_client_together(project) -> None:
    """The settings are read once for all threads."""
    client = DjangoFocusLabClient()
    start = threading.Barrier(16)

    def work(number: int) -> None:
        start.wait()
        record(client, 10, start=10 * number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.flush()
    assert len(project.ids()) == 160
    assert client.stats().recorded == 160


def test_close_and_with_work_before_the_first_use(project) -> None:
    """No trigger need be recorded before."""
    assert DjangoFocusLabClient().close()
    with DjangoFocusLabClient() as client:
        record(client, 1)
    assert len(project.triggers) == 1
    with pytest.raises(AttributeError):
        _ = client.nonsense


# Mistakes.


def test_an_invalid_trigger_makes_no_page_fail(project, caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped and counted, and the log gives the reason."""
    client = DjangoFocusLabClient()
    with caplog.at_level(logging.WARNING, "brockman"):
        assert not client.record_trigger(1, "bought", "book", variables={"price": float("nan")})
        assert client.stats().dropped == {"invalid": 1}
        assert eventually(lambda: "1 invalid (the last one: variables['price']: nan is not JSON" in caplog.text)
    assert law_holds(client, 1)


def test_an_invalid_trigger_raises_where_debug_is_on(project) -> None:
    """With the path and the value."""
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match="nan is not JSON"):
        DjangoFocusLabClient().record_trigger(1, "bought", "book", variables={"price": float("nan")})


def test_an_invalid_trigger_raises_in_tests(project, test_run) -> None:
    """As with `DEBUG`."""
    with pytest.raises(InvalidTrigger, match="nan is not JSON"):
        DjangoFocusLabClient().record_trigger(1, "bought", "book", variables={"price": float("nan")})


def test_on_invalid_decides_when_it_is_given(project) -> None:
    """As a setting and as a keyword."""
    with override_settings(DEBUG=True, FL_ON_INVALID="drop"):
        assert not DjangoFocusLabClient().record_trigger("", "bought", "book")
    with pytest.raises(InvalidTrigger):
        DjangoFocusLabClient(on_invalid="raise").record_trigger("", "bought", "book")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"FL_API_KEY": None}, "api_key is missing"),
        ({"FL_FLUSH_INTERVAL": "soon"}, "flush_interval is 'soon'"),
        ({"FL_ENDPOINT": "http://focus.example/"}, "would travel in clear"),
        ({"FL_ON_DROP": "no.such.function"}, "FL_ON_DROP is 'no.such.function'"),
    ],
)
def test_wrong_settings_make_no_page_fail(
    wrong: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Triggers are dropped and counted, one log line gives the error, and `send_trigger` raises it."""
    with override_settings(**wrong), caplog.at_level(logging.ERROR, "brockman"):
        clients = [DjangoFocusLabClient() for _ in range(20)]
        before = clients[0].stats().recorded  # of an earlier one, not collected yet, with which they share
        for client in clients:
            assert not client.record_trigger(1, "viewed", "page")
            assert not client.record_trigger_on_commit(1, "viewed", "page")
        assert client.stats().dropped == {"misconfigured": before + 40}
        assert law_holds(client, before + 40)
        with pytest.raises(ConfigurationError, match=words):
            client.send_trigger(1, "viewed", "page")
    assert len([line for line in caplog.messages if "misconfigured" in line]) <= 1


def test_wrong_settings_raise_where_debug_is_on() -> None:
    """At the first use."""
    with override_settings(DEBUG=True, FL_API_KEY=None):
        client = DjangoFocusLabClient()
        with pytest.raises(ConfigurationError, match="api_key is missing"):
            client.record_trigger(1, "viewed", "page")


# Values as people pass them.


class Product(models.Model):
    """A model with a UUID for its key."""

    id = models.UUIDField(primary_key=True)

    class Meta:
        app_label = "shop"


def test_models_lazy_objects_and_lazy_texts_are_converted(project) -> None:
    """A model becomes its key, a lazy user the user, lazy text the text of the active language."""
    key = uuid.uuid4()
    moment = datetime.datetime(2026, 11, 25, 12, 0, tzinfo=timezone.get_fixed_timezone(60))
    user = SimpleLazyObject(lambda: User(pk=7, username="ada"))
    client = DjangoFocusLabClient()
    with translation.override("de"):
        assert client.record_trigger(
            user,
            gettext_lazy("Monday"),
            "book",
            {"user": User(pk=7), "email": SimpleLazyObject(lambda: "ada@example.com")},
            {"plan": None},
            {"product": Product(id=key), "price": Decimal("19.90"), "at": moment, "items": [Product(id=key), 3]},
        )
    assert client.record_trigger(User(pk=8).pk, "viewed", "page")
    assert client.record_trigger(key, "viewed", "page")
    assert client.flush()
    first, *others = project.triggers
    assert first["actor_id"] == "7"
    assert first["action"] == "Montag"
    assert first["captured_identities"] == {"user": 7, "email": "ada@example.com"}
    assert first["variables"] == {
        "product": str(key),
        "price": 19.9,
        "at": "2026-11-25T12:00:00+01:00",
        "items": [str(key), 3],
    }
    assert [trigger["actor_id"] for trigger in others] == ["8", str(key)]


@pytest.mark.parametrize(
    ("actor", "words"),
    [
        (User(), "actor_id: None should be a str, int or UUID"),
        (AnonymousUser(), "actor_id: a value of type AnonymousUser should be"),
        (SimpleLazyObject(AnonymousUser), "actor_id: a value of type AnonymousUser should be"),
    ],
)
def test_an_actor_without_a_key_is_invalid(actor: Any, words: str) -> None:
    """A user that is not saved, or anonymous, has no key."""
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match=words):
        DjangoFocusLabClient(KEY).record_trigger(actor, "viewed", "page")


UNSEEN = "9f86d081884c7d659a2feaa0c55ad015"


def test_reading_an_attribute_reads_no_settings(project: RecordingServer) -> None:
    """Test runners read all kinds of attributes before the test run of the project begins."""
    client = DjangoFocusLabClient()
    for name in ("_mock_name", "pytestmark", "__wrapped__", "anything"):
        assert not hasattr(client, name)
    assert copy.copy(client) is copy.deepcopy(client) is client
    assert "not in use yet" in repr(client)


def test_sigterm_cannot_be_handled_from_a_thread_and_makes_no_page_fail(
    project: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers handle requests in threads: triggers are recorded, and a warning is logged."""
    recorded: list[bool] = []
    with override_settings(FL_HANDLE_SIGTERM=True):
        client = DjangoFocusLabClient()
        thread = threading.Thread(target=lambda: recorded.append(client.record_trigger(1, "viewed", "page")))
        thread.start()
        thread.join()
    assert recorded == [True]
    assert "FL_HANDLE_SIGTERM has no effect" in caplog.text


def test_wrong_settings_are_read_again(project: RecordingServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a hook that cannot be imported yet: triggers are dropped only until it can."""
    client = DjangoFocusLabClient()
    monkeypatch.setattr("brockman.web.client._RETRY_AFTER", 0.0)
    with override_settings(FL_BEFORE_RECORD=f"{__name__}.not_yet"):
        assert not client.record_trigger(1, "viewed", "page")
        monkeypatch.setitem(globals(), "not_yet", dict)
        assert client.record_trigger(1, "viewed", "page")


def test_threads_that_read_the_settings_together_close_no_transport() -> None:
    """A transport of the caller's is used by one pipeline, and closed with it."""
    closed: list[bool] = []
    clients = []
    for _ in range(20):
        transport = MemoryTransport()
        transport.close = lambda: closed.append(True)  # type: ignore[method-assign]
        client = DjangoFocusLabClient(transport=transport)
        clients.append((client, transport))
        barrier = threading.Barrier(4)

        def work(client: DjangoFocusLabClient = client, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            record(client, 1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    gc.collect()
    assert closed == []
    for client, transport in clients:
        assert client.close().pending == 0
        assert len(transport.triggers) == 4


def test_wrong_settings_close_no_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with a transport of the caller's uses it when the settings are right."""
    transport = MemoryTransport()
    closed: list[bool] = []
    transport.close = lambda: closed.append(True)  # type: ignore[method-assign]
    client = DjangoFocusLabClient(transport=transport)
    monkeypatch.setattr("brockman.web.client._RETRY_AFTER", 0.0)
    with override_settings(FL_FLUSH_INTERVAL="soon"):
        assert not client.record_trigger(1, "viewed", "page")
    record(client, 1)
    gc.collect()
    assert closed == []
    assert client.close().pending == 0
    assert len(transport.triggers) == 1


def test_a_traceback_can_show_a_client_that_could_not_be_made() -> None:
    """Its repr raises nothing, and its frame shows no key."""
    with pytest.raises(ConfigurationError) as caught:
        DjangoFocusLabClient(KEY, transport=MemoryTransport(), session=object())  # type: ignore[arg-type]
    frame = caught.traceback[-1].frame.f_locals
    assert repr(frame["self"]) == "<DjangoFocusLabClient not in use yet>"
    assert KEY not in repr(frame)


def test_a_transport_and_a_session_exclude_each_other() -> None:
    """As for every client."""
    with pytest.raises(ConfigurationError, match="give one"):
        DjangoFocusLabClient(transport=MemoryTransport(), session=object())  # type: ignore[arg-type]


def test_what_a_test_replaces_on_a_client_stays_when_settings_change(
    project: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock set on the client survives `override_settings`."""
    client = DjangoFocusLabClient()
    record(client, 1)
    monkeypatch.setattr(client, "record_trigger", lambda *_: "replaced")
    with override_settings(FL_FLUSH_INTERVAL=0.1):
        assert client.record_trigger(1, "viewed", "page") == "replaced"


def test_no_frame_shows_the_key_and_no_repr_raises() -> None:
    """With `DEBUG`, Django's error page shows the locals of each frame."""
    client = DjangoFocusLabClient(UNSEEN)
    with override_settings(DEBUG=True, FL_FLUSH_INTERVAL="soon"):
        assert repr(client) == "<DjangoFocusLabClient not in use yet>"
        with pytest.raises(ConfigurationError) as caught:
            client.record_trigger(1, "viewed", "page")
        trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert UNSEEN not in "".join(trace.format())


@pytest.mark.parametrize(
    "key",
    [UNSEEN, f"{UNSEEN}\n", f"{UNSEEN}\n{UNSEEN}", UNSEEN.encode(), int(UNSEEN, 16), Path(UNSEEN), [UNSEEN]],
    ids=ascii,
)
@pytest.mark.parametrize("name", ["FL_API_KEY", "FL_ENDPOINT"])
def test_no_error_shows_a_key_of_the_project(
    key: Any, name: str, project: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the error, its frames and causes, the client's attributes, nor the log where nothing raises."""
    client = DjangoFocusLabClient()
    with override_settings(**{"FL_FLUSH_INTERVAL": "soon", name: key}):
        assert not client.record_trigger(1, "viewed", "page")
        with override_settings(DEBUG=True), pytest.raises(ConfigurationError) as caught:
            client.record_trigger(1, "viewed", "page")
    text = shown_by(caught.value, but=__file__) + caplog.text + repr(vars(client))
    assert UNSEEN not in text
    assert str(int(UNSEEN, 16)) not in text


def test_a_key_with_a_line_break_is_sent_without_it(project: RecordingServer) -> None:
    """As a file has it that the settings read."""
    with override_settings(FL_API_KEY=f"{KEY}\n"), DjangoFocusLabClient() as client:
        client.send_trigger(1, "viewed", "page")
    assert project.requests[0].headers["x-fl-api-key"] == KEY


@pytest.mark.parametrize("endpoint", ["https://*.example.com/", "https://.x/", "https://%s/", "https://☃.x/"])
def test_an_endpoint_that_cannot_be_used_makes_no_page_fail(
    endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a wrong setting: the trigger is dropped as misconfigured, and the log names setting and value."""
    with override_settings(FL_ENDPOINT=endpoint):
        assert not DjangoFocusLabClient().record_trigger(1, "viewed", "page")
    assert f"endpoint is '{endpoint}'; it should " in caplog.text


def test_a_client_with_a_transport_needs_no_key() -> None:
    """Where the project has none, and in production nothing would raise; other clients still need one."""
    transport = MemoryTransport()
    with override_settings(FL_API_KEY=None, FL_ENDPOINT="http://collector.internal/"):
        with DjangoFocusLabClient(transport=transport) as client:
            assert client.record_trigger(1, "viewed", "page")
        with override_settings(DEBUG=True), pytest.raises(ConfigurationError, match="api_key is missing"):
            DjangoFocusLabClient().record_trigger(1, "viewed", "page")
    assert len(transport.triggers) == 1
