"""`request.user` when nobody is logged in: a page that records it is neither broken nor counted for nobody."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User
from django.contrib.sessions.middleware import SessionMiddleware
from django.db import models
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.test.utils import override_settings
from django.utils.functional import SimpleLazyObject

from brockman.django.client import DjangoFocusLabClient
from brockman.django.middleware import FocusLabMiddleware
from brockman.exceptions import InvalidTrigger
from tests.support.client import KEY
from tests.support.server import RecordingServer

COOKIE = "fl_actor_id"
VISITOR = "9b2f8a34-6a2e-4a8e-9f5e-0a3b7c1d2e4f"


@pytest.fixture(autouse=True, params=[True, False], ids=["debug", "production"])
def _at_the_project(project: RecordingServer, request: pytest.FixtureRequest) -> Iterator[None]:
    """In debug, where a mistake raises, and in production, where it is counted."""
    with override_settings(DEBUG=request.param, SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies"):
        yield


class Anonymous(AnonymousUser):
    """A subclass, as projects have it."""


class Stranger:
    """A class of its own, as REST framework's `UNAUTHENTICATED_USER` may name one."""

    is_anonymous = True
    pk = None


class Reader(AbstractBaseUser):
    """A user model with a key of its own."""

    id = models.UUIDField(primary_key=True)

    class Meta:
        app_label = "library"


def lazy(user: Any) -> SimpleLazyObject:
    return SimpleLazyObject(lambda: user)


NOBODY = [AnonymousUser(), lazy(AnonymousUser()), Anonymous(), Stranger(), lazy(Stranger()), lazy(None)]
KEYLESS = [*NOBODY, User(), lazy(User())]
NAMES = [type(value).__name__ for value in KEYLESS]


def visit(view: Callable[[HttpRequest], Any]) -> None:
    """Handle a visitor's request by a view, below the middleware for sessions and users."""
    request = RequestFactory().get("/")
    request.COOKIES[COOKIE] = VISITOR

    def respond(request: HttpRequest) -> HttpResponse:
        assert view(request)
        return HttpResponse()

    stack = SessionMiddleware(AuthenticationMiddleware(FocusLabMiddleware(respond)))
    stack(request).close()


def visit_async(view: Callable[[HttpRequest], Any]) -> None:
    """Do so in an event loop."""
    request = AsyncRequestFactory().get("/")
    request.COOKIES[COOKIE] = VISITOR

    async def respond(request: HttpRequest) -> HttpResponse:
        recorded = view(request)
        assert await recorded if asyncio.iscoroutine(recorded) else recorded
        return HttpResponse()

    async def run() -> None:
        stack = SessionMiddleware(AuthenticationMiddleware(FocusLabMiddleware(respond)))
        (await stack(request)).close()

    async_to_sync(run)()


def triggers(server: RecordingServer) -> list[dict[str, Any]]:
    assert DjangoFocusLabClient().flush()
    return server.triggers


@pytest.mark.parametrize("handle", [visit, visit_async], ids=["wsgi", "asgi"])
def test_the_actor_is_the_visitor(project: RecordingServer, handle: Callable[..., None]) -> None:
    """`actor_id=request.user` means the cookie's actor then, also for what is recorded on commit."""
    handle(lambda request: request.focuslab.record_trigger("viewed", "page", actor_id=request.user))
    handle(lambda request: request.focuslab.record_trigger_on_commit("ordered", "book", actor_id=request.user))
    assert [trigger["actor_id"] for trigger in triggers(project)] == [VISITOR] * 2


@pytest.mark.skipif(django.VERSION < (5, 0), reason="request.auser came with Django 5.0")
def test_the_user_of_an_async_view_is_the_visitor_too(project: RecordingServer) -> None:
    """`await request.auser()` returns an `AnonymousUser` without a lazy object around it."""

    async def view(request: HttpRequest) -> Any:
        return request.focuslab.record_trigger("viewed", "page", actor_id=await request.auser())

    visit_async(view)
    assert [trigger["actor_id"] for trigger in triggers(project)] == [VISITOR]


@pytest.mark.parametrize("user", NOBODY, ids=NAMES[: len(NOBODY)])
def test_every_kind_of_nobody_is_the_visitor(project: RecordingServer, user: Any) -> None:
    """Subclasses, classes that take its place, and what a lazy object wraps; for any client too."""
    visit(lambda request: request.focuslab.record_trigger("viewed", "page", actor_id=user))
    visit(lambda request: DjangoFocusLabClient().record_trigger(user, "viewed", "page"))
    assert [trigger["actor_id"] for trigger in triggers(project)] == [VISITOR, VISITOR]


@pytest.mark.parametrize(
    "user", [User(pk=7), lazy(User(pk=7)), Reader(id=uuid.UUID(int=7))], ids=["model", "lazy", "own model"]
)
def test_a_user_who_is_logged_in_is_the_actor(project: RecordingServer, user: Any) -> None:
    """Whatever its class and its key."""
    visit(lambda request: request.focuslab.record_trigger("viewed", "page", actor_id=user))
    assert [trigger["actor_id"] for trigger in triggers(project)] == [str(user.pk)]


@pytest.mark.parametrize("value", KEYLESS, ids=NAMES)
def test_as_a_value_it_is_left_out(project: RecordingServer, value: Any) -> None:
    """As None is; what else is recorded stays."""
    assert DjangoFocusLabClient().record_trigger(
        "shop", "sold", "book", {"user": value}, {"user": value, "plan": "free"}, {"by": value, "n": 1}
    )
    (trigger,) = triggers(project)
    assert trigger.get("captured_identities") is None
    assert (trigger["captured_attributes"], trigger["variables"]) == ({"plan": "free"}, {"n": 1})


@pytest.mark.parametrize("user", NOBODY[:-1], ids=NAMES[: len(NOBODY) - 1])
def test_without_a_request_the_error_says_that_nobody_is_logged_in(user: Any) -> None:
    """And what to do: a client has no visitor."""
    with pytest.raises(InvalidTrigger, match="nobody is logged in: pass the visitor's id, or record with"):
        DjangoFocusLabClient(KEY, on_invalid="raise").record_trigger(user, "viewed", "page")


@pytest.mark.parametrize("user", [User(), lazy(User())], ids=["model", "lazy"])
def test_an_actor_that_is_not_saved_is_a_mistake(user: Any) -> None:
    """It is not taken for the visitor, and the error says why it has no key."""
    with pytest.raises(InvalidTrigger, match="a model has no key until it is saved"):
        DjangoFocusLabClient(KEY, on_invalid="raise").record_trigger(user, "viewed", "page")
    with override_settings(FL_ON_INVALID="raise"), pytest.raises(InvalidTrigger, match="until it is saved"):
        visit(lambda request: request.focuslab.record_trigger("viewed", "page", actor_id=user))
