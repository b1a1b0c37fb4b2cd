"""`DjangoFocusLabClient`: options from settings, mistakes that make no page fail, values as people pass them."""

from __future__ import annotations

import datetime
import logging
import threading
import uuid
from decimal import Decimal
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
from tests.options.test_table import DEFAULTS, SPECS, sample, shown
from tests.support.client import KEY, law_holds, record
from tests.support.waiting import eventually

DROPPED: list[tuple[str, bytes | None]] = []


def note_drop(reason: str, body: bytes | None) -> None:
    """For FL_ON_DROP, as a dotted path."""
    DROPPED.append((reason, body))


# Settings.


@pytest.mark.parametrize("name", [name for name in Options.names() if name != "handle_sigterm"])
def test_every_option_is_a_setting(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`FL_<NAME>` says what the keyword says; keywords win over it, and it wins over the environment."""
    value, setting = sample(name), f"FL_{name.upper()}"
    if not callable(value):
        monkeypatch.setenv(setting, str(DEFAULTS[name]) if DEFAULTS[name] is not None else "of the environment")
    with override_settings(**{setting: value}):
        assert shown(getattr(DjangoFocusLabClient().options, name)) == value
        if name != "api_key":
            by_keyword = DjangoFocusLabClient(**{name: DEFAULTS[name]})
            assert getattr(by_keyword.options, name) == DEFAULTS[name]


def test_sigterm_is_handled_by_setting() -> None:
    """The last of the options, which needs the main thread."""
    import signal

    before = signal.getsignal(signal.SIGTERM)
    try:
        with override_settings(FL_HANDLE_SIGTERM=True):
            assert DjangoFocusLabClient().options.handle_sigterm
            assert signal.getsignal(signal.SIGTERM) is not before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_key_in_the_environment_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the settings do not say, or leave empty, is read from the environment."""
    monkeypatch.setenv("FL_API_KEY", "of the environment")
    with override_settings(FL_API_KEY=""):
        assert shown(DjangoFocusLabClient().options.api_key) == "of the environment"


@pytest.mark.parametrize("name", [spec.name for spec in SPECS if spec.metadata["check"] is function])
def test_a_function_is_named_by_its_dotted_path(name: str) -> None:
    """Settings files import nothing of the project."""
    with override_settings(**{f"FL_{name.upper()}": "tests.django.test_client.note_drop"}):
        assert getattr(DjangoFocusLabClient().options, name) is note_drop


def test_the_settings_are_read_with_the_first_use(project) -> None:
    """A client at the top of a module is made before the settings are final."""
    with override_settings(FL_API_KEY="", FL_ENDPOINT="nonsense"):
        client = DjangoFocusLabClient()
    assert client.record_trigger(1, "viewed", "page")
    assert client.flush().delivered == 1
    assert len(project.triggers) == 1


def test_override_settings_holds_for_clients_in_use(project) -> None:
    """Also for one that has read the settings before; afterwards the old ones hold again."""
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


def test_a_client_in_every_view_is_free(project) -> None:
    """Thousands of them share one buffer and one thread, and lose nothing."""
    for number in range(3000):
        record(DjangoFocusLabClient(), 1, start=number)
    assert sum(thread.name == "brockman-worker" for thread in threading.enumerate()) <= 1
    client = DjangoFocusLabClient()
    assert client.flush()
    assert client.stats().delivered == 3000
    assert set(project.ids().values()) == {1}
    assert isinstance(client, FocusLabClient)
    assert "DjangoFocusLabClient" in repr(client)


def test_many_threads_may_come_first_together(project) -> None:
    """All threads use what the first of them has read."""
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
    """Nothing but the settings is needed."""
    assert DjangoFocusLabClient().close()
    with DjangoFocusLabClient() as client:
        record(client, 1)
    assert len(project.triggers) == 1
    with pytest.raises(AttributeError):
        _ = client.nonsense


# Mistakes.


def test_an_invalid_trigger_makes_no_page_fail(project, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and the log says what was wrong with it."""
    client = DjangoFocusLabClient()
    with caplog.at_level(logging.WARNING, "brockman"):
        assert not client.record_trigger(1, "bought", "book", variables={"price": float("nan")})
        assert client.stats().dropped == {"invalid": 1}
        assert eventually(lambda: "1 invalid (the last one: variables['price']: nan is not JSON" in caplog.text)
    assert law_holds(client, 1)


def test_an_invalid_trigger_raises_where_debug_is_on(project) -> None:
    """The developer sees it at once."""
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match="nan is not JSON"):
        DjangoFocusLabClient().record_trigger(1, "bought", "book", variables={"price": float("nan")})


def test_an_invalid_trigger_raises_in_tests(project, test_run) -> None:
    """And so do the project's tests."""
    with pytest.raises(InvalidTrigger, match="nan is not JSON"):
        DjangoFocusLabClient().record_trigger(1, "bought", "book", variables={"price": float("nan")})


def test_on_invalid_decides_when_it_is_given(project) -> None:
    """By setting or keyword."""
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
    """Triggers are counted, one line says what to change, however many clients there are; sending says it too."""
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


def test_what_a_view_has_at_hand_fits(project) -> None:
    """Models stand for their keys, lazy users for users; a translation is that of the moment."""
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
def test_nobody_acts_is_a_mistake(actor: Any, words: str) -> None:
    """A user that is not saved, or not logged in, has no id."""
    with override_settings(DEBUG=True), pytest.raises(InvalidTrigger, match=words):
        DjangoFocusLabClient(KEY).record_trigger(actor, "viewed", "page")
