"""A RabbitMQ node for the tests, with data, cookie, ports and port mapper of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import amqp
import celery

from tests.support.programs import find_program, free_port
from tests.support.waiting import eventually

# The script itself: Debian's wrapper changes the user and serves only the system's node.
_SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# One scheduler thread that does not spin while idle: the tests' programs need the processor.
_FRUGAL = "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"


class Node:
    """A node that can be killed, suspended and restarted, and keeps its messages."""

    def __init__(self, folder: Path) -> None:
        """Start nothing yet."""
        server, mapper = find_program("rabbitmq-server"), find_program("epmd")
        self._command = [str(_SCRIPT) if _SCRIPT.exists() else server]
        self._folder = folder
        self._port = free_port()
        (folder / "plugins").write_text("[].")
        (folder / "environment").touch()
        mapper_port, others_port = str(free_port()), str(free_port())
        self._environment = {
            **os.environ,
            "HOME": str(folder),  # where the cookie is written
            "ERL_EPMD_PORT": mapper_port,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"brockman{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": others_port,
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": _FRUGAL,
        }
        # Otherwise the node starts one, which outlives it.
        self._mapper = subprocess.Popen([mapper, "-address", "127.0.0.1", "-port", mapper_port])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The broker's URL."""
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    def start(self) -> None:
        """Start it, and wait for it."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait()

    def wait(self) -> None:
        """Wait until it accepts connections."""
        assert eventually(self._accepts, 60), (self._folder / "log").read_text()

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), self.app() as app, app.connection_for_write() as connection:
            connection.connect()
            return True
        return False

    def signal(self, number: int) -> None:
        """Send a signal to its processes."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """Kill it."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(30)

    def end(self) -> None:
        """Kill it and the port mapper, and remove its data."""
        if self._process is not None:
            self.kill()
        self._mapper.kill()
        self._mapper.wait(30)
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    @contextlib.contextmanager
    def app(self) -> Iterator[Any]:
        """Yield an app with this broker."""
        app = celery.Celery("look", broker=self.url, set_as_current=False)
        yield app
        app.close()

    def publish(self, queue: str, messages: list[tuple[bytes, dict[str, Any]]]) -> None:
        """Publish bodies with their properties to a queue that exists, without Celery."""
        with self.app() as app, app.connection_for_write() as connection:
            for body, properties in messages:
                connection.default_channel.basic_publish(amqp.Message(body, **properties), routing_key=queue)

    def waiting(self, queue: str) -> list[str]:
        """Take the messages that wait in a queue, and return their ids."""
        with self.app() as app, app.connection_for_read() as connection:
            channel, found = connection.default_channel, []
            while (message := channel.basic_get(queue, no_ack=True)) is not None:
                found.append(message.properties["application_headers"]["id"])
            return found
