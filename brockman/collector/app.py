"""The ASGI application: its routes, and what each request passes before them."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from brockman.collector import live, openapi, page, responses
from brockman.collector.api import erasure, groups, overview, people, refused, senders, triggers, watching
from brockman.collector.auth import HostCheck
from brockman.collector.browsers import send_script
from brockman.collector.health import Health
from brockman.collector.isolation import Isolation
from brockman.collector.joiner import Joiner
from brockman.collector.live import Streams
from brockman.collector.load import Bounds, Load
from brockman.collector.metrics import Metrics
from brockman.collector.rehearsal import Rehearsal
from brockman.collector.settings import Settings
from brockman.collector.shutdown import Shutdown
from brockman.collector.store.base import Store
from brockman.collector.store.refused import Refused
from brockman.collector.store.senders import Senders


def create_app(
    store: Store,
    settings: Settings,
    allowed_hosts: Collection[str] | None,
    *,
    kept: Refused,
    streams: Streams,
    joiner: Joiner,
    load: Load,
    metrics: Metrics,
) -> Starlette:
    """Return the application. It does not close the store; `allowed_hosts` None accepts every `Host`."""
    app = Starlette(
        routes=[
            *triggers.routes(store, kept, settings, load, metrics),
            *overview.routes(store, settings),
            *live.routes(streams, settings),
            *people.routes(joiner, settings),
            *groups.routes(store, joiner, settings),
            *refused.routes(kept, settings, Senders(store).find),
            *senders.routes(store, settings),
            *erasure.routes(store, settings, joiner),
            *watching.routes(Health(store), metrics, settings),
            *page.routes(),
            Route("/focuslab.js", send_script, methods=["GET"]),
        ],
        middleware=[*_middleware(store, settings, allowed_hosts, load)],
        exception_handlers=responses.HANDLERS,
    )
    app.router.routes.append(openapi.route(app.router.routes))
    app.router.redirect_slashes = False  # clients do not follow redirects, to send their key to no other host
    return app


def _middleware(
    store: Store, settings: Settings, allowed_hosts: Collection[str] | None, load: Load
) -> Iterator[Middleware]:
    """Yield what each request passes, the outermost first."""
    yield Middleware(Isolation)
    yield Middleware(Shutdown)
    if allowed_hosts is not None:
        yield Middleware(HostCheck, allowed_hosts=allowed_hosts, open_path=watching.HEALTH_PATH)
    yield Middleware(Bounds, load=load)
    if settings.is_rehearsal:
        stored = lambda: store.stored  # noqa: E731
        yield Middleware(Rehearsal, settings=settings, stored=stored, rand=random.random)
