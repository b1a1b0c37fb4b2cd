"""A Django site with one page; `SIDE` in the environment names its middleware, and what the view records."""

from __future__ import annotations

import os
from typing import Any

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path

SIDE, SINK = os.environ["SIDE"], os.environ["SINK"]
_BROCKMAN = "brockman.django.middleware.FocusLabMiddleware"
MIDDLEWARE = {
    "brockman": [_BROCKMAN],
    "brockman, nothing recorded": [_BROCKMAN],
    "posthog": ["posthog.integrations.django.PosthogContextMiddleware"],
}
PAGE = b"<!doctype html><title>page</title>" + b"<p>Queues for everyone</p>" * 100


def answer(request: HttpRequest) -> HttpResponse:
    """Record one event, as the side does, and answer with a page of 3 KB."""
    if SIDE == "brockman":
        request.focuslab.record_trigger(action="viewed", obj="page", variables={"title": "Queues"})
    elif SIDE == "posthog":
        import posthog

        posthog.capture("viewed page", distinct_id=request.COOKIES["fl_actor_id"], properties={"title": "Queues"})
    elif SIDE == "sentry":
        import sentry_sdk

        sentry_sdk.capture_message("viewed page")
    return HttpResponse(PAGE)


def set_up() -> None:
    """Make the side's client, as its documentation says."""
    if SIDE == "posthog":
        import posthog

        posthog.api_key, posthog.host, posthog.max_queue_size = "k", SINK, 10**6
    elif SIDE == "sentry":
        import sentry_sdk
        from sentry_sdk.integrations.django import DjangoIntegration

        sentry_sdk.init(
            dsn=SINK.replace("http://", "http://key@") + "1",
            integrations=[DjangoIntegration()],
            transport_queue_size=10**6,
        )


settings.configure(
    SECRET_KEY="not secret",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=MIDDLEWARE.get(SIDE, []),
    FL_API_KEY="k",
    FL_ENDPOINT=SINK,
    FL_MAX_QUEUE_SIZE=10**6,
)
set_up()
django.setup()
urlpatterns: list[Any] = [path("", answer), path("ready", lambda request: HttpResponse(PAGE))]
application = get_wsgi_application()
