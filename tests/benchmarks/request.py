"""The cost of the middleware for a Django view, in one process: `python -m tests.benchmarks.request`.

Django's handler answers requests, alternately with and without the middleware. The figures are medians of the CPU
time of the thread. Triggers stay in the buffer: the worker thread sleeps.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse

ROUNDS = 60
REQUESTS = 200  # of each kind in a round
KNOWN = "9b2f8a34-6a2e-4a8e-9f5e-0a3b7c1d2e4f"
MIDDLEWARE = "brockman.django.middleware.FocusLabMiddleware"
BOUNDS = {"known visitor": 15.0, "record": 12.0, "first visit": 60.0}  # microseconds


def answer(request: HttpRequest) -> HttpResponse:
    """Answer as a bare view, and record one trigger if the request says so."""
    if "record" in request.META:
        request.focuslab.record_trigger(action="viewed", obj="book", variables={"title": "Queues"})
    return HttpResponse("answer")


def environ(*, cookie: bool = True, record: bool = False) -> dict[str, Any]:
    """Return a request as a WSGI server gives it."""
    from django.test import RequestFactory

    made = RequestFactory().get("/").environ
    if cookie:
        made["HTTP_COOKIE"] = f"theme=dark; fl_actor_id={KNOWN}"
    return {**made, **({"record": True} if record else {})}


def seconds(handler: Any, given: dict[str, Any]) -> float:
    """Return the seconds of a request: made, answered and closed."""
    started = time.thread_time()
    for _ in range(REQUESTS):
        response = handler.get_response(handler.request_class(dict(given)))
        response.close()
    return (time.thread_time() - started) / REQUESTS


def make_handler(middleware: list[str]) -> Any:
    """Return Django's handler with these middlewares."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test.utils import override_settings

    with override_settings(MIDDLEWARE=middleware):
        return WSGIHandler()


def measure() -> dict[str, float]:
    """Return microseconds: of a bare request, and what each kind adds to it."""
    bare, ours = make_handler([]), make_handler([MIDDLEWARE])
    runs: dict[str, Callable[[], float]] = {
        "bare": lambda: seconds(bare, environ()),
        "known visitor": lambda: seconds(ours, environ()),
        "record": lambda: seconds(ours, environ(record=True)),
        "first visit": lambda: seconds(ours, environ(cookie=False, record=True)),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(ROUNDS):
        order = list(runs) if number % 2 else list(runs)[::-1]
        for name in order:
            found[name].append(runs[name]())
    medians = {name: statistics.median(values) * 1e6 for name, values in found.items()}
    return {
        "bare": medians["bare"],
        "known visitor": medians["known visitor"] - medians["bare"],
        "record": medians["record"] - medians["known visitor"],
        "first visit": medians["first visit"] - medians["bare"],
    }


def main() -> None:
    """Print the figures, and whether they are within their bounds."""
    settings.configure(
        SECRET_KEY="not secret",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        FL_API_KEY="k",
        FL_MAX_QUEUE_SIZE=10**6,
        FL_ENDPOINT="http://127.0.0.1:9/",
        FL_SHUTDOWN_TIMEOUT=0,
        FL_FLUSH_INTERVAL=3600,
        FL_MAX_BATCH_SIZE=10**6,
        FL_MAX_BATCH_BYTES=10**9,
        FL_MAX_QUEUE_BYTES=10**9,
    )
    django.setup()
    found = measure()
    bare = found.pop("bare")
    print(f"a bare view takes {bare:.1f} us a request; the middleware adds")
    for name, cost in found.items():
        verdict = "" if cost <= BOUNDS[name] else ": exceeded"
        share = f"{cost / bare:.2f} of the bare view"
        print(f"{name:>15}  {cost:5.1f} us, {share}  (bound {BOUNDS[name]:.0f} us{verdict})")


urlpatterns: list[Any] = []
if __name__ == "__main__":
    from django.urls import path

    urlpatterns = [path("", answer)]
    main()
