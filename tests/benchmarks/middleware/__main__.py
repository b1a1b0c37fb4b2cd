"""Measures each side in turn: the same page without a middleware, with brockman's, with others.

Every side is a server process of its own, and all send to one sink. In each round every side answers as many
requests, in an order that changes; one connection, kept alive, of a visitor with cookies. CPU is the server's,
with what its background threads use to deliver; it is the steadiest of the figures on a machine that does more.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.peers import sink
from tests.benchmarks.processes import precise_cpu_of
from tests.support.programs import environment, free_port

COOKIE = "theme=dark; fl_actor_id=9b2f8a34-6a2e-4a8e-9f5e-0a3b7c1d2e4f; sessionid=0123456789abcdef0123456789abcdef"
SIDES = ("nothing", "brockman, nothing recorded", "brockman", "posthog", "sentry")
MODULES = {"posthog": "posthog", "sentry": "sentry_sdk"}
RECORDING = ("brockman", *MODULES)
BOUND = 3.0  # times what ours adds: the least that the best of the others adds
SERVERS = {
    "Django under gunicorn (gthread)": [
        *("gunicorn", "--worker-class", "gthread", "--threads", "2", "--keep-alive", "60", "--no-control-socket"),
        *("--log-level", "warning", "--bind", "127.0.0.1:{port}", "tests.benchmarks.middleware.django_site"),
    ],
    "FastAPI under uvicorn": [
        *("uvicorn", "--log-level", "warning", "--no-access-log", "--timeout-keep-alive", "60"),
        *("--port", "{port}", "tests.benchmarks.middleware.fastapi_site:app"),
    ],
}


@dataclass
class Side:
    """A server with a middleware, and the measurements of its rounds."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    arrived: int = 0
    requests: int = 0
    cpu: list[float] = field(default_factory=list)  # microseconds for a request
    rate: list[float] = field(default_factory=list)  # requests a second
    p99: list[float] = field(default_factory=list)  # microseconds

    def run(self, connection: http.client.HTTPConnection, requests: int) -> None:
        """Make requests, and measure."""
        workers = [self.process.pid, *children(self.process.pid)]
        before, begun, times = sum(map(precise_cpu_of, workers)), time.perf_counter(), []
        for _ in range(requests):
            started = time.perf_counter()
            connection.request("GET", "/", headers={"Cookie": COOKIE})
            response = connection.getresponse()
            response.read()
            times.append(time.perf_counter() - started)
            assert response.status == 200
        self.requests += requests
        self.rate.append(requests / (time.perf_counter() - begun))
        self.p99.append(sorted(times)[int(len(times) * 0.99)] * 1e6)
        time.sleep(1.2)  # what waits to be delivered is delivered within a second, and belongs to these requests
        self.cpu.append((sum(map(precise_cpu_of, workers)) - before) / requests * 1e6)


def children(process: int) -> list[int]:
    """Return the processes that a process has started."""
    found = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


@contextmanager
def serving(command: list[str], name: str, remote: sink.Remote) -> Iterator[Side]:
    """Run the server of a side."""
    port = free_port()
    arguments = [sys.executable, "-m", *(part.format(port=port) for part in command)]
    with subprocess.Popen(arguments, env=environment(SIDE=name, SINK=remote.url)) as process:
        try:
            wait_for(port)
            yield Side(name, port, process)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def wait_for(port: int) -> None:
    """Return when a server answers."""
    for _ in range(200):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/ready")
            connection.getresponse().read()
        except OSError:
            time.sleep(0.1)
        else:
            return
        finally:
            connection.close()
    raise TimeoutError(f"nothing answers at port {port}")


def measure(command: list[str], names: list[str], rounds: int, requests: int) -> None:
    """Print a table: each side of a server."""
    with sink.running() as remote, ExitStack() as stack:
        sides = [stack.enter_context(serving(command, name, remote)) for name in names]
        connections = {side.name: http.client.HTTPConnection("127.0.0.1", side.port, timeout=30) for side in sides}
        for number in range(rounds + 1):
            for side in random.sample(sides, len(sides)):
                count = requests if number else 200
                remote.reset()
                side.run(connections[side.name], count)
                side.arrived += remote.wait_for(count if side.name in RECORDING else 0, 5.0).triggers
            if not number:  # to warm up
                for side in sides:
                    side.cpu, side.rate, side.p99 = [], [], []
        for connection in connections.values():
            connection.close()
        show(sides)


def show(sides: list[Side]) -> None:
    bare = statistics.median(sides[0].cpu)
    added = {side.name: statistics.median(side.cpu) - bare for side in sides}
    ours = added["brockman"]
    print(f"{'':28}{'CPU us':>9}{'from':>7}{'to':>7}{'added':>8}{'x ours':>8}{'requests/s':>12}{'p99 us':>9}")
    for side in sides:
        ratio = f"{added[side.name] / ours:.1f}" if side is not sides[0] else ""
        print(
            f"{side.name:28}{statistics.median(side.cpu):9.0f}{min(side.cpu):7.0f}{max(side.cpu):7.0f}"
            f"{added[side.name]:8.0f}{ratio:>8}{statistics.median(side.rate):12.0f}{statistics.median(side.p99):9.0f}"
        )
        if side.name in RECORDING and side.arrived != side.requests:
            print(f"{'':28}{side.arrived} of {side.requests} arrived: it does not count")
    others = [added[side.name] / ours for side in sides if side.name in MODULES and side.arrived == side.requests]
    if others:
        verdict = "" if min(others) >= BOUND else ": missed"
        print(f"the best of the others adds {min(others):.1f} times as much (bound {BOUND}{verdict})")


def main() -> None:
    """Measure the sides whose packages are installed, on every server."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=1000, help="of each side in a round")
    options = parser.parse_args()
    names = [name for name in SIDES if name not in MODULES or importlib.util.find_spec(MODULES[name])]
    for title, command in SERVERS.items():
        print(f"\n{title}: {options.rounds} rounds of {options.requests} requests to each side")
        measure(command, names, options.rounds, options.requests)


if __name__ == "__main__":
    main()
