"""The code that README.rst and docs/ show for Django and Celery runs."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import FocusLabMiddleware
from brockman.testing import capture
from tests.docs.blocks import Block, named, only, run_python
from tests.support.client import KEY
from tests.support.server import RecordingServer


def visit(view: Any, *arguments: Any) -> HttpResponse:
    """Have a view answer a request that went through the middleware."""

    def answer(request: HttpRequest) -> HttpResponse:
        request.user = User(pk=7)
        return view(request, *arguments)

    return FocusLabMiddleware(answer)(RequestFactory().get("/"))


@pytest.mark.parametrize("block", named("django settings"), ids=str)
def test_the_settings_are_those_of_the_package(block: Block) -> None:
    """The application and the middleware exist under these names."""
    names: Any = run_python(block)
    assert names["FL_API_KEY"] == KEY
    assert "brockman.django" in names["INSTALLED_APPS"]
    assert f"{FocusLabMiddleware.__module__}.{FocusLabMiddleware.__name__}" in names["MIDDLEWARE"]


def test_the_view_of_the_readme_records(project: RecordingServer) -> None:
    """A visitor views and orders."""
    views: Any = run_python(only("django view"))
    response = visit(views["order_book"], "Queues")
    assert DjangoFocusLabClient().flush()
    assert [trigger["action"] for trigger in project.triggers] == ["viewed", "ordered"]
    assert {trigger["actor_id"] for trigger in project.triggers} == {response.cookies["fl_actor_id"].value}


def test_the_views_record(project: RecordingServer) -> None:
    """A visitor, a user who is logged in, and a shop."""
    views: Any = run_python(only("django views"))
    viewed = visit(views["show_book"], "Queues").cookies["fl_actor_id"].value
    ordered = visit(views["order_book"], "Queues").cookies["fl_actor_id"].value
    assert DjangoFocusLabClient().flush()
    assert [trigger["action"] for trigger in project.triggers] == ["viewed", "ordered", "ordered", "sold"]
    assert [trigger["actor_id"] for trigger in project.triggers] == [viewed, ordered, "7", "shop"]


def test_code_without_a_request_records_for_the_visitor(project: RecordingServer) -> None:
    """The actor is that of the cookie, which the response sets."""
    reserve: Any = run_python(only("django without request"))["reserve"]

    def view(request: HttpRequest, title: str) -> HttpResponse:
        reserve(SimpleNamespace(title=title))
        return HttpResponse()

    reserved = visit(view, "Queues").cookies["fl_actor_id"].value
    assert DjangoFocusLabClient().flush()
    assert [(trigger["actor_id"], trigger["variables"]) for trigger in project.triggers] == [
        (reserved, {"title": "Queues"})
    ]


def test_the_asgi_application_has_a_lifespan() -> None:
    """Django's own refuses one."""
    names: Any = run_python(only("django asgi"))
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(names["application"]({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("block", named("celery task"), ids=str)
def test_the_task_is_called_without_a_broker_too(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls back to this process."""
    monkeypatch.setenv("FL_API_KEY", KEY)
    with capture() as outbox:
        run_python(block)
    outbox.assert_recorded(actor_id="42", action="viewed", obj="blog post", times=1)
