"""A FastAPI application with one page; `SIDE` in the environment names its middleware, and what it records."""

from __future__ import annotations

import os

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

SIDE, SINK = os.environ["SIDE"], os.environ["SINK"]
PAGE = "<!doctype html><title>page</title>" + "<p>Queues for everyone</p>" * 100
os.environ.update(FL_API_KEY="k", FL_ENDPOINT=SINK, FL_MAX_QUEUE_SIZE="1000000")

if SIDE == "sentry":
    import sentry_sdk

    sentry_sdk.init(dsn=SINK.replace("http://", "http://key@") + "1", transport_queue_size=10**6)
app = FastAPI()
if SIDE.startswith("brockman"):
    import brockman
    from brockman.asgi import FocusLabMiddleware

    app.add_middleware(FocusLabMiddleware)
if SIDE == "posthog":
    import posthog

    posthog.api_key, posthog.host, posthog.max_queue_size = "k", SINK, 10**6


@app.get("/ready", response_class=HTMLResponse)
async def ready() -> str:
    """Record nothing."""
    return PAGE


@app.get("/", response_class=HTMLResponse)
async def answer(request: Request) -> str:
    """Record one event, as the side does, and answer with a page of 3 KB."""
    if SIDE == "brockman":
        brockman.current().record_trigger(action="viewed", obj="page", variables={"title": "Queues"})
    elif SIDE == "posthog":
        with posthog.new_context():
            posthog.capture(
                "viewed page", distinct_id=request.cookies["fl_actor_id"], properties={"title": "Queues"}
            )
    elif SIDE == "sentry":
        sentry_sdk.capture_message("viewed page")
    return PAGE
