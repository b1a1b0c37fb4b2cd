"""The Django integration under attack, each as a promise."""

from __future__ import annotations

import asyncio
import copy
import gc
import threading
import traceback
import weakref
from typing import Any

import pytest
from django.core import mail
from django.core.mail.backends.locmem import EmailBackend
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings

from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import FocusLabMiddleware
from brockman.exceptions import ConfigurationError, InvalidTrigger
from brockman.transport.memory import MemoryTransport
from tests.support.client import record
from tests.support.server import RecordingServer
from tests.support.waiting import eventually


def test_mail_that_goes_to_memory_makes_no_test_run(project: RecordingServer) -> None:
    """A staging server may have such a backend; it sends its triggers all the same."""
    try:
        EmailBackend()
        assert mail.outbox == []
        record(DjangoFocusLabClient(), 1)
        assert DjangoFocusLabClient().flush()
        assert len(project.triggers) == 1
    finally:
        del mail.outbox


def test_a_look_at_a_client_reads_no_settings(project: RecordingServer) -> None:
    """Test runners look for all kinds of attributes, before the project's test run has begun."""
    client = DjangoFocusLabClient()
    for name in ("_mock_name", "pytestmark", "__wrapped__", "anything"):
        assert not hasattr(client, name)
    assert copy.copy(client) is copy.deepcopy(client) is client
    assert "not in use yet" in repr(client)


def on_commit(**more: Any) -> bool:
    return DjangoFocusLabClient().record_trigger_on_commit(1, "ordered", "book", **more)


def test_on_commit_connects_to_no_database(project: RecordingServer) -> None:
    """Where no transaction is, a page that needs no database is not made to wait for one, or fail without."""
    seen: list[Any] = []
    # A thread has connections of its own, at first none.
    thread = threading.Thread(target=lambda: seen.extend((on_commit(), connections["default"].connection)))
    thread.start()
    thread.join()
    assert seen == [True, None]


def test_on_commit_in_an_event_loop_records_at_once(project: RecordingServer) -> None:
    """Django would refuse to look for a transaction there."""

    async def view() -> bool:
        return on_commit()

    assert asyncio.run(view())
    assert DjangoFocusLabClient().flush().pending == 0


def test_on_commit_with_the_transaction_in_the_projects_own_hands(project: RecordingServer) -> None:
    """Without `atomic` there is nothing to wait for: it is recorded at once."""
    transaction.set_autocommit(False)
    try:
        assert on_commit()
        assert DjangoFocusLabClient().stats().recorded == 1
        transaction.rollback()
    finally:
        transaction.set_autocommit(True)


def test_on_commit_of_a_database_that_there_is_not_makes_no_page_fail(project: RecordingServer) -> None:
    """It is counted and told; the developer sees it at once."""
    assert not on_commit(using="typo")
    assert DjangoFocusLabClient().stats().dropped == {"invalid": 1}
    with (
        override_settings(DEBUG=True),
        pytest.raises(InvalidTrigger, match="one of default, other"),
    ):
        on_commit(using="typo")


def test_sigterm_cannot_be_handled_from_a_thread_and_makes_no_page_fail(
    project: RecordingServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Servers answer requests in threads; triggers are recorded, and the log says what has no effect."""
    recorded: list[bool] = []
    with override_settings(FL_HANDLE_SIGTERM=True):
        client = DjangoFocusLabClient()
        thread = threading.Thread(target=lambda: recorded.append(client.record_trigger(1, "viewed", "page")))
        thread.start()
        thread.join()
    assert recorded == [True]
    assert "FL_HANDLE_SIGTERM has no effect" in caplog.text


def test_settings_that_were_wrong_for_a_moment_are_read_again(
    project: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that could not be imported yet, say: triggers are lost until then, and not for ever."""
    client = DjangoFocusLabClient()
    monkeypatch.setattr("brockman.django.client._RETRY_AFTER", 0.0)
    with override_settings(FL_BEFORE_RECORD=f"{__name__}.not_yet"):
        assert not client.record_trigger(1, "viewed", "page")
        monkeypatch.setitem(globals(), "not_yet", dict)
        assert client.record_trigger(1, "viewed", "page")


def test_threads_that_come_first_together_close_nobodys_transport() -> None:
    """A transport that was given is used by one pipeline, and closed with it."""
    for _ in range(20):
        transport = MemoryTransport()
        closed: list[bool] = []
        transport.close = lambda closed=closed: closed.append(True)  # type: ignore[method-assign]
        client = DjangoFocusLabClient(transport=transport)
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
        assert client.close().pending == 0
        assert len(transport.triggers) == 4


def test_a_transport_and_a_session_are_too_much() -> None:
    """As for every client."""
    with pytest.raises(ConfigurationError, match="give one"):
        DjangoFocusLabClient(transport=MemoryTransport(), session=object())  # type: ignore[arg-type]


def test_what_a_test_replaces_on_a_client_stays_when_settings_change(
    project: RecordingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what was read from the settings is read again."""
    client = DjangoFocusLabClient()
    record(client, 1)
    monkeypatch.setattr(client, "record_trigger", lambda *_: "replaced")
    with override_settings(FL_FLUSH_INTERVAL=0.1):
        assert client.record_trigger(1, "viewed", "page") == "replaced"


def test_a_request_is_gone_when_it_was_answered(project: RecordingServer) -> None:
    """Without the collector of cycles: requests hold uploads."""

    def view(request: HttpRequest) -> HttpResponse:
        request.focuslab.record_trigger(action="viewed", obj="page")
        return HttpResponse()

    gc.disable()
    try:
        request = RequestFactory().get("/")
        FocusLabMiddleware(view)(request)
        seen = weakref.ref(request)
        del request
        assert eventually(lambda: seen() is None, 1)
    finally:
        gc.enable()


def test_no_frame_shows_the_key_and_no_repr_raises() -> None:
    """Where `DEBUG` is on, Django's own page of an error shows the locals of each frame."""
    client = DjangoFocusLabClient(UNSEEN)
    with override_settings(DEBUG=True, FL_FLUSH_INTERVAL="soon"):
        assert repr(client) == "<DjangoFocusLabClient not in use yet>"
        with pytest.raises(ConfigurationError) as caught:
            client.record_trigger(1, "viewed", "page")
        trace = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert UNSEEN not in "".join(trace.format())


UNSEEN = "9f86d081884c7d659a2feaa0c55ad015"
