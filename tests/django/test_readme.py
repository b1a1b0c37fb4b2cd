"""What the README says of Django and Celery: its tables are the program's, and its code runs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from brockman.client import FocusLabClient
from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import FocusLabMiddleware
from brockman.django.settings import DjangoSettings
from brockman.options.celery import CelerySettings
from tests.conftest import KEY
from tests.test_readme import ALL_SNIPPETS, SNIPPETS, assert_table, settings_table

OTHERS = [code for code in ALL_SNIPPETS if code not in SNIPPETS]


def setting(name: str) -> str:
    return f"FL_{name.upper()}"


def test_the_tables_are_those_of_the_program() -> None:
    """Every setting is in the README with its default, its unit and its meaning, and no other."""
    assert_table("django settings", settings_table(DjangoSettings, "setting", setting))
    assert_table("celery settings", settings_table(CelerySettings, "setting", setting))


def names_of(*words: str) -> dict[str, Any]:
    """Run the one piece of code that has these words, and return what it defines."""
    (code,) = [code for code in OTHERS if all(word in code for word in words)]
    names: dict[str, Any] = {}
    exec(compile(re.sub(r"^    ", "", code, flags=re.MULTILINE), "README.rst", "exec"), names)
    return names


def test_all_of_its_code_is_run_here() -> None:
    """There are four pieces."""
    assert len(OTHERS) == 4
    names = names_of("INSTALLED_APPS")
    assert names["FL_API_KEY"] == KEY
    assert "brockman.django" in names["INSTALLED_APPS"]


def test_the_views_record(project) -> None:
    """A visitor, and a user."""
    views = names_of("DjangoFocusLabClient")

    def answer(request: HttpRequest) -> HttpResponse:
        request.user = User(pk=7)
        views["show_book"](request, "Queues")
        return views["order_book"](request, "Queues")

    response = FocusLabMiddleware(answer)(RequestFactory().get("/"))
    assert DjangoFocusLabClient().flush()
    assert [trigger["action"] for trigger in project.triggers] == ["viewed", "ordered", "ordered", "sold"]
    visitor = response.cookies["fl_actor_id"].value
    assert [trigger["actor_id"] for trigger in project.triggers] == [visitor, visitor, "7", "shop"]


def test_the_test_tests() -> None:
    """It passes when the page records, and fails when it does not."""
    test = names_of("capture")["test_an_order_is_recorded"]

    class Browser:
        def __init__(self, title: str) -> None:
            self.title = title

        def post(self, path: str) -> None:
            FocusLabClient(KEY).record_trigger(7, "ordered", "book", variables={"title": self.title})

    test(Browser("Queues for Everyone"))
    with pytest.raises(AssertionError, match="should be recorded 1 times"):
        test(Browser("Another book"))


def test_the_task_is_called_without_a_broker_too(server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls back to this process."""
    monkeypatch.setenv("FL_ENDPOINT", server.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)
    task = names_of("brockman.celery")["record_trigger"]
    assert task.client.close().pending == 0
    assert [trigger["actor_id"] for trigger in server.triggers] == ["42"]
