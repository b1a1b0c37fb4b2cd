"""The pages of the project."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path


def show(request: HttpRequest) -> HttpResponse:
    """Record one trigger for the actor of the request."""
    recorded = request.focuslab.record_trigger(action="viewed", obj="page", variables={"path": request.path})
    return HttpResponse(f"{request.focuslab.actor_id} {recorded}")


def quiet(request: HttpRequest) -> HttpResponse:
    """Record one trigger, and show nothing of the actor."""
    return HttpResponse(str(request.focuslab.record_trigger(action="viewed", obj="page")))


async def show_async(request: HttpRequest) -> HttpResponse:
    """Do so in an event loop."""
    return show(request)


def record_nothing(request: HttpRequest) -> HttpResponse:
    """Leave the tracker alone."""
    return HttpResponse("quiet")


async def record_nothing_async(request: HttpRequest) -> HttpResponse:
    """Do so in an event loop."""
    return record_nothing(request)


def record_many(request: HttpRequest) -> HttpResponse:
    """Record three triggers for the actor, and one for another."""
    for obj in ("first", "second", "third"):
        request.focuslab.record_trigger("viewed", obj)
    request.focuslab.record_trigger("viewed", "fourth", actor_id=7)
    return HttpResponse("many")


def record_in_threads(request: HttpRequest) -> HttpResponse:
    """Record from eight threads at once, as the first to ask who acts."""
    start = threading.Barrier(8)

    def work(number: int) -> None:
        start.wait()
        request.focuslab.record_trigger("viewed", f"part {number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return HttpResponse("threads")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    """Record a trigger with each part of the answer."""

    def parts() -> Iterator[str]:
        for number in range(5):
            request.focuslab.record_trigger("read", f"part {number}")
            yield f"{request.focuslab.actor_id} "

    return StreamingHttpResponse(parts())


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    """Do so in an event loop."""

    async def parts() -> AsyncIterator[str]:
        for number in range(5):
            request.focuslab.record_trigger("read", f"part {number}")
            yield f"{request.focuslab.actor_id} "

    return StreamingHttpResponse(parts())


def fail(request: HttpRequest) -> HttpResponse:
    """Record a trigger, and fail."""
    request.focuslab.record_trigger("viewed", "failure")
    raise ZeroDivisionError("the view's own mistake")


async def fail_async(request: HttpRequest) -> HttpResponse:
    """Do so in an event loop."""
    return fail(request)


def forbid(request: HttpRequest) -> HttpResponse:
    """Refuse."""
    raise PermissionDenied


def set_cookie(request: HttpRequest) -> HttpResponse:
    """Set the actor's cookie as another program would."""
    response = HttpResponse("set")
    response.set_cookie("fl_actor_id", "chosen by the view")
    return response


def order(request: HttpRequest) -> HttpResponse:
    """Record in a transaction, which fails if the query says so."""
    try:
        with transaction.atomic(using=request.GET.get("using")):
            request.focuslab.record_trigger_on_commit("ordered", "book", using=request.GET.get("using"))
            if "fail" in request.GET:
                raise ValueError
    except ValueError:
        return HttpResponse("failed")
    return HttpResponse("ordered")


def record_wrongly(request: HttpRequest) -> HttpResponse:
    """Record what is no trigger."""
    return HttpResponse(str(request.focuslab.record_trigger("", object())))


urlpatterns = [
    path("page/", show),
    path("quiet/", quiet),
    path("async/", show_async),
    path("quiet/", record_nothing),
    path("quiet-async/", record_nothing_async),
    path("many/", record_many),
    path("threads/", record_in_threads),
    path("stream/", stream),
    path("stream-async/", stream_async),
    path("fail/", fail),
    path("fail-async/", fail_async),
    path("forbidden/", forbid),
    path("set/", set_cookie),
    path("order/", order),
    path("wrong/", record_wrongly),
]
