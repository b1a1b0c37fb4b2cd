"""Clients that send to collectors while these are killed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import requests

from tests.collector.running import trigger
from tests.support.client import KEY


class Senders:
    """Threads that send each batch until it is acknowledged, after a failure to the next collector; some twice."""

    def __init__(
        self,
        ports: Sequence[int],
        threads: int = 3,
        seed: int = 7,
        make: Callable[[], dict[str, Any]] = trigger,  # returns what is sent
    ) -> None:
        self._make = make
        self.acknowledged: list[str] = []  # ids
        self._ports = ports
        self._random = random.Random(seed)
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(number,)) for number in range(threads)]

    def __enter__(self) -> Senders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Wait until what was begun is acknowledged; a collector must run."""
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    def goal(self) -> int:
        """Return a random number of acknowledged triggers, not long from now."""
        return len(self.acknowledged) + self._random.randrange(1000)

    def _send(self, number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self._end.is_set():
                batch = [self._make() for _ in range(self._random.randrange(1, 200))]
                for attempt in count():
                    port = self._ports[(number + attempt) % len(self._ports)]
                    if self._post(session, port, batch) and (attempt or self._random.random() < 0.8):
                        break
                self.acknowledged.extend(sent["id"] for sent in batch)

    def _post(self, session: requests.Session, port: int, batch: list[dict[str, Any]]) -> bool:
        url = f"http://127.0.0.1:{port}/api/v1/trigger/"
        with suppress(requests.RequestException):
            if session.post(url, json=batch, headers={"X-FL-API-KEY": KEY}, timeout=20).status_code == 201:
                return True
        self._end.wait(0.01)  # a pause between two tries
        return False
