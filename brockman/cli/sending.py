"""The client through which commands send, and its options."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from brockman.cli.arguments import add_endpoint, add_timeout
from brockman.cli.source import excerpt
from brockman.cli.terminal import Progress, exit_status, ignore_signals, raise_on_signals
from brockman.client import FocusLabClient
from brockman.exceptions import ConfigurationError
from brockman.options.fields import printable
from brockman.process.clock import monotonic

_CLOSE_TIMEOUT = 1.0  # seconds; `shutdown_timeout` if that is less


def add_options(parser: Any, *, timeout_help: str, timeout: float | None = None) -> None:
    add_endpoint(parser, endpoint="where to send (default: FL_ENDPOINT, or the API's own)")
    add_timeout(parser, timeout_help, default=timeout)


class Sender(ABC):
    """Sends with a client of its own, beside a progress bar."""

    def __init__(self, options: argparse.Namespace, **settings: Any) -> None:
        given = {name: getattr(options, name) for name in ("endpoint", "api_key")}
        settings.update({name: value for name, value in given.items() if value is not None})
        self.client = FocusLabClient(**settings, on_error=self._on_error)
        if not self.client.options.enabled:
            raise ConfigurationError("enabled is off (FL_ENABLED): nothing would be sent")
        self.say: Callable[[str], None] = print
        self._name = options.command
        self.seconds = 0.0  # the duration of `run`

    def run(self, **bar: Any) -> int:
        """Send, then close the client; return 0, or 128 plus the number of the signal that interrupted it."""
        status, started = 0, monotonic()
        raise_on_signals()
        with Progress(self.look, **bar) as progress:
            self.say = progress.say
            try:
                self.send()
            except KeyboardInterrupt as error:
                status = exit_status(error)
            finally:
                ignore_signals()
                self.client.close(min(_CLOSE_TIMEOUT, self.client.options.shutdown_timeout))
        self.seconds = monotonic() - started
        return status

    def fail(self, text: str) -> None:
        """Print an error that ends the command, or leaves out a part of its work."""
        self.say(f"brockman {self._name}: {text}")

    @abstractmethod
    def send(self) -> None:
        """Send everything, or give up after the timeout."""

    @abstractmethod
    def look(self) -> tuple[int, str]:
        """Return the position of the bar, and the text after it."""

    def rejected_line(self) -> str:
        """Return the start of the report on a rejected trigger. Called in the order of recording."""
        return ""

    def _on_error(self, error: Exception, bodies: tuple[bytes, ...]) -> None:
        for body in bodies:
            text = excerpt(body.decode("utf-8", "replace"))
            self.say(f"{self.rejected_line()}rejected: {printable(str(error))}: {text}")
