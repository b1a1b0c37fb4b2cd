"""The sides: brockman, the floor, and the peers, each set up as its documentation says is fastest.

That is: a background thread where there is one, the queue larger than all that is recorded, up to 500 triggers in
a request where that can be set (a `batch` of 0 leaves a peer at its own default), no debugging, no logging. A side
has one trigger, made when it is opened:

    module    what is imported
    ready     what a program does until it can record
    record()  records the trigger; what is timed
    flush()   returns when all is delivered or dropped
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BATCH = 500
EXAMPLE = 330  # bytes of the README's example, encoded
_TITLE = "How to never lose a trigger"


def make_title(size: int) -> str:
    """Return a title that makes the trigger about `size` bytes long; 0 for the README's example."""
    if 0 < size < EXAMPLE:
        return ""
    return _TITLE + "x" * max(0, size - EXAMPLE)


def make_tags(size: int) -> list[str]:
    return [] if 0 < size < EXAMPLE else ["python", "queues", "testing"]


class Brockman:
    """Through HTTP, in memory, as it comes; `max_queue_size` is the only setting changed, and what a part asks."""

    module = "brockman.client"
    ready = "from brockman.client import FocusLabClient; FocusLabClient(api_key='k')"

    def __init__(self, url: str, capacity: int, size: int = 0, **options: Any) -> None:
        from brockman.client import FocusLabClient

        settings = {"max_queue_size": capacity, "max_queue_bytes": 2**33, "shutdown_timeout": 30.0, **options}
        self.client = client = FocusLabClient(api_key="k", endpoint=url, **settings)
        title, tags = make_title(size), make_tags(size)

        def record() -> None:
            client.record_trigger(
                actor_id=42,
                action="viewed",
                obj="blog post",
                identities={"email": "ada@example.com"},
                attributes={"plan": "pro"},
                variables={"tags": tags, "title": title},
            )

        self.record = record

    def flush(self) -> None:
        self.client.flush(120.0)

    def depth(self) -> int:
        stats = self.client.stats()
        return stats.queued + stats.in_flight


class Floor:
    """The least that must be done: `orjson.dumps`, `SimpleQueue.put`, and a thread that posts 500 at a time.

    The thread looks every 5 ms for a full batch, which is cheaper than being woken by every trigger.
    """

    module = "requests"
    ready = "import orjson, requests; requests.Session()"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        import orjson
        import requests

        self._url, self._session, self._batch = url + "floor/", requests.Session(), batch
        self._waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._flush_requested, self._idle = False, threading.Event()
        dumps, put = orjson.dumps, self._waiting.put
        wire = {
            "actor_id": "42",
            "action": "viewed",
            "object": "blog post",
            "captured_identities": {"email": "ada@example.com"},
            "captured_attributes": {"plan": "pro"},
            "variables": {"tags": make_tags(size), "title": make_title(size)},
            "id": "0190c8a1-1111-8222-9333-000000000001",
            "recorded_at": "2026-11-23T17:22:32.123456Z",
        }

        self.record: Callable[[], object] = lambda: put(dumps(wire))
        threading.Thread(target=self._run, daemon=True).start()
        atexit.register(self.flush)

    def _run(self) -> None:
        since = time.monotonic()
        while True:
            count = min(self._waiting.qsize(), self._batch)
            if count == self._batch or (count and (self._flush_requested or time.monotonic() - since >= 1.0)):
                bodies = [self._waiting.get_nowait() for _ in range(count)]
                body = b"[" + b",".join(bodies) + b"]"
                headers = {"Content-Type": "application/json"}
                self._session.post(self._url, data=body, headers=headers).raise_for_status()
                since = time.monotonic()
                continue
            if not count:
                since = time.monotonic()
                self._idle.set()
            time.sleep(0.005)

    def flush(self) -> None:
        self._flush_requested = True
        self._idle.clear()
        self._idle.wait(120.0)
        self._flush_requested = False

    def depth(self) -> int:
        return self._waiting.qsize()


def _properties(size: int) -> dict[str, Any]:
    return {"email": "ada@example.com", "plan": "pro", "tags": make_tags(size), "title": make_title(size)}


class Segment:
    """Its queue and thread, uploads of 500."""

    module = "segment.analytics.client"
    ready = "from segment.analytics.client import Client; Client('k')"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        from segment.analytics.client import Client

        settings = {"upload_size": batch} if batch else {}
        self._client = client = Client("k", host=url, max_queue_size=capacity, **settings)
        properties = _properties(size)
        self.record: Callable[[], object] = lambda: client.track("42", "viewed blog post", dict(properties))

    def flush(self) -> None:
        self._client.flush()


class Rudder:
    """As segment, of which it is a fork. It compresses by default, which costs more, so that is off."""

    module = "rudderstack.analytics.client"
    ready = "from rudderstack.analytics.client import Client; Client('k')"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        from rudderstack.analytics.client import Client

        settings = {"upload_size": batch} if batch else {}
        self._client = client = Client("k", host=url, max_queue_size=capacity, gzip=False, **settings)
        properties = _properties(size)
        self.record: Callable[[], object] = lambda: client.track("42", "viewed blog post", dict(properties))

    def flush(self) -> None:
        self._client.flush()


class Posthog:
    """Its queue and thread, uploads of 500."""

    module = "posthog"
    ready = "from posthog import Posthog; Posthog('k')"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        from posthog import Posthog as Client

        settings = {"flush_at": batch} if batch else {}
        self._client = client = Client("k", host=url, max_queue_size=capacity, **settings)
        properties = _properties(size)
        self.record: Callable[[], object] = lambda: client.capture(
            "viewed blog post", distinct_id="42", properties=dict(properties)
        )

    def flush(self) -> None:
        self._client.flush(timeout_seconds=120.0)


class Mixpanel:
    """`BufferedConsumer`, at its largest of 50. It has no thread: every 50th call sends."""

    module = "mixpanel"
    ready = "import mixpanel; mixpanel.Mixpanel('k', consumer=mixpanel.BufferedConsumer())"

    def __init__(self, url: str, capacity: int, size: int = 0) -> None:
        import mixpanel

        consumer = mixpanel.BufferedConsumer(max_size=50, events_url=url + "track")
        client, properties = mixpanel.Mixpanel("k", consumer=consumer), _properties(size)
        self.record: Callable[[], object] = lambda: client.track("42", "viewed blog post", dict(properties))
        self.flush = consumer.flush
        atexit.register(consumer.flush)


class Amplitude:
    """Its buffer and pool of threads, 500 in a request."""

    module = "amplitude"
    ready = "from amplitude import Amplitude; Amplitude('k')"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        from amplitude import Amplitude as Client
        from amplitude import BaseEvent, Config
        from amplitude.constants import EventLogLevel

        settings = {"flush_queue_size": batch} if batch else {}
        config = Config(server_url=url + "2/httpapi", event_log_level=EventLogLevel.NONE, **settings)
        self._client, properties = Client("k", config), _properties(size)
        track = self._client.track
        self.record: Callable[[], object] = lambda: track(
            BaseEvent("viewed blog post", user_id="user-42", event_properties=dict(properties))
        )

    def flush(self) -> None:
        for future in self._client.flush():
            if future is not None:
                future.result()


class Snowplow:
    """`AsyncEmitter` with a kept-alive session, 500 in a request."""

    module = "snowplow_tracker"
    ready = "import snowplow_tracker as s; s.Tracker('n', s.AsyncEmitter('localhost'))"

    def __init__(self, url: str, capacity: int, size: int = 0, batch: int = BATCH) -> None:
        import requests
        import snowplow_tracker as snowplow

        settings = {"batch_size": batch} if batch else {}
        emitter = snowplow.AsyncEmitter(
            url, protocol="http", buffer_capacity=capacity, session=requests.Session(), **settings
        )
        tracker, properties = snowplow.Tracker("focuslab", emitter), _properties(size)
        schema = "iglu:io.focuslab/viewed/jsonschema/1-0-0"

        def record() -> None:
            event = snowplow.SelfDescribingJson(schema, dict(properties))
            tracker.track(snowplow.SelfDescribing(event))

        self.record: Callable[[], object] = record
        self.flush = emitter.sync_flush
        atexit.register(emitter.sync_flush)


@dataclass(frozen=True)
class Entry:
    """A side: how to open it, and whether its calls only enqueue."""

    open: Callable[..., Any]
    is_peer: bool = True
    in_background: bool = True
    package: str = ""


SIDES = {
    "brockman": Entry(Brockman, is_peer=False),
    "floor": Entry(Floor, is_peer=False),
    "segment": Entry(Segment, package="segment-analytics-python"),
    "posthog": Entry(Posthog, package="posthog"),
    "mixpanel": Entry(Mixpanel, in_background=False, package="mixpanel"),
    "amplitude": Entry(Amplitude, package="amplitude-analytics"),
    "snowplow": Entry(Snowplow, package="snowplow-tracker"),
    "rudder": Entry(Rudder, package="rudder-sdk-python"),
}

BACKGROUND_PEERS = tuple(name for name, side in SIDES.items() if side.is_peer and side.in_background)


def is_there(name: str) -> bool:
    """Return whether the packages of a side are installed."""
    return importlib.util.find_spec(SIDES[name].open.module.split(".")[0]) is not None


def be_quiet() -> None:
    """Discard the log of the peers, as an application would."""
    logging.disable(logging.WARNING)
