"""A transport that the user has written, for the worker's thread."""

from __future__ import annotations

from brockman.process.signals import inherited_signals
from brockman.transport import Answer, Transport
from brockman.trigger.coerce import class_name


class ForeignTransport:
    """Passes everything on, with the signals as the user's code expects them."""

    def __init__(self, transport: Transport) -> None:
        self.target = getattr(transport, "target", class_name(transport))  # a session sends to the endpoint
        self._transport = transport

    def send(self, body: bytes, timeout: float | None = None) -> Answer:
        with inherited_signals():
            return self._transport.send(body, timeout)

    def close(self) -> None:
        with inherited_signals():
            self._transport.close()
