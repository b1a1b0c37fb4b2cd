"""The pages of the project."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

from brockman import FocusLabClient
from brockman.transport.memory import MemoryTransport

SENT = MemoryTransport()
PLAIN = FocusLabClient(transport=SENT, flush_interval=0.05)


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


def client_stream(request: HttpRequest) -> StreamingHttpResponse:
    """Record with a client of its own, without an actor: before the answer, and with each part of it."""
    PLAIN.record_trigger(action="viewed", obj="page")

    def parts() -> Iterator[str]:
        for number in range(3):
            PLAIN.record_trigger(action="read", obj=f"part {number}")
            yield f"{number} "

    return StreamingHttpResponse(parts())


async def client_stream_async(request: HttpRequest) -> StreamingHttpResponse:
    """Do so in an event loop, in a thread and in a task."""
    await asyncio.to_thread(PLAIN.record_trigger, action="viewed", obj="page")

    async def later() -> None:
        PLAIN.record_trigger(action="read", obj="task")

    async def parts() -> AsyncIterator[str]:
        for number in range(2):
            PLAIN.record_trigger(action="read", obj=f"part {number}")
            yield f"{number} "
        await asyncio.create_task(later())

    return StreamingHttpResponse(parts())


def client_wrongly(request: HttpRequest) -> HttpResponse:
    """Record what is no trigger, with a client that has no settings of Django's."""
    return HttpResponse(str(PLAIN.record_trigger(action="viewed", obj=object())))


def forbid(request: HttpRequest) -> HttpResponse:
    """Refuse."""
    raise PermissionDenied


def set_cookie(request: HttpRequest) -> HttpResponse:
    """Set the actor's cookie as another program would, and record."""
    request.focuslab.record_trigger(action="viewed", obj="page")
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
    path("nothing/", record_nothing),
    path("quiet-async/", record_nothing_async),
    path("many/", record_many),
    path("threads/", record_in_threads),
    path("stream/", stream),
    path("stream-async/", stream_async),
    path("fail/", fail),
    path("fail-async/", fail_async),
    path("client-stream/", client_stream),
    path("client-stream-async/", client_stream_async),
    path("client-wrong/", client_wrongly),
    path("forbidden/", forbid),
    path("set/", set_cookie),
    path("order/", order),
    path("wrong/", record_wrongly),
]
