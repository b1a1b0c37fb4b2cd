"""For each process the collector says whether everything has arrived that it recorded."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from brockman.client import FocusLabClient
from tests.cli.conftest import listening
from tests.collector.running import Running
from tests.support.client import KEY, record
from tests.support.programs import environment, free_port, ran_python, started
from tests.support.server import RecordingServer, Reply, Request, reset
from tests.support.waiting import eventually

HOST = socket.gethostname()
RECORD = """
import sys
from brockman import FocusLabClient
with FocusLabClient(on_invalid="drop") as client:
    for n in range(int(sys.argv[1])):
        client.record_trigger("7", "viewed", "page", variables={"n": n})
"""
SERVE = ["-m", "brockman", "serve"]


@pytest.fixture
def make_client() -> Iterator[Callable[..., FocusLabClient]]:
    """Make clients that do not wait; they are closed at the end."""
    made: list[FocusLabClient] = []

    def make(endpoint: str, **options: Any) -> FocusLabClient:
        waits = {"flush_interval": 0.02, "backoff_base": 0.01, "backoff_cap": 0.02}
        made.append(FocusLabClient(KEY, endpoint, **{**waits, **options}))
        return made[-1]

    yield make
    for client in made:
        client.close(0)


def senders(collector: Running) -> list[dict[str, Any]]:
    """Return the senders, once it is certain that the numbers of each add up."""
    found = collector.get("senders/").json()["senders"]
    for s in found:
        arrived = s["delivered_before"] + s["arrived"] + s["missing"] + s["refused"]
        assert s["recorded"] + s["recovered"] == arrived + sum(s["dropped"].values()) + s["waiting"]
    return list(found)


def test_everything_that_a_process_recorded_has_arrived(start: Callable[..., Running], location: str) -> None:
    """One sentence proves it, after the process has ended."""
    collector = start(database=location)
    ended = ran_python(RECORD, "10000", env=environment(FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY))
    assert (ended.status, ended.err) == (0, "")
    (sender,) = senders(collector)
    assert sender["says"] == f"{HOST}: recorded 10 000, dropped 0, arrived 10 000"
    assert collector.stats()["triggers"] == sender["stored"] == 10_000


def test_what_a_killed_process_left_arrives_by_another(
    start: Callable[..., Running], location: str, tmp_path: Path
) -> None:
    """The first says how many waited when it was killed; the second, how many it recovered. The sums close."""
    collector = start(database=location)
    spool = tmp_path / "spool"
    code = """
import itertools
from brockman import FocusLabClient
client = FocusLabClient(max_batch_size=50, flush_interval=0.01)
for n in itertools.count(1):
    client.record_trigger("7", "viewed", "page")
    print(n, flush=True)
"""
    settings = {"FL_ENDPOINT": collector.endpoint, "FL_API_KEY": KEY, "FL_SPOOL_DIR": str(spool)}
    recorded = 0
    with started([sys.executable, "-c", code], env=environment(**settings)) as process:
        assert process.stdout is not None
        for line in process.stdout:
            recorded = int(line) if line.endswith("\n") else recorded
            if recorded % 100 == 0 and collector.stats()["triggers"] > 100:
                break
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            recorded = int(line) if line.endswith("\n") else recorded
    ended = ran_python(RECORD, "10", env=environment(**settings, FL_SHUTDOWN_TIMEOUT="30"))
    assert ended.status == 0
    other, dead = senders(collector)
    recovered, arrived = (f"{other[name]:,}".replace(",", " ") for name in ("recovered", "arrived"))
    assert other["says"] == f"{HOST}: recorded 10, recovered {recovered}, dropped 0, arrived {arrived}"
    assert other["arrived"] == other["recovered"] + 10
    assert dead["missing"] == other["missing"] == 0
    stored = collector.stats()["triggers"]
    assert dead["stored"] + other["stored"] == stored
    assert stored - 10 in (recorded, recorded + 1)  # it may be killed before it prints
    # The second recovered the rest, and some that had come before the first could note it.
    assert dead["arrived"] + other["recovered"] - (other["arrived"] - other["stored"]) == stored - 10


def test_answers_that_are_lost_change_nothing(
    start: Callable[..., Running],
    location: str,
    server: RecordingServer,
    make_client: Callable[..., FocusLabClient],
) -> None:
    """A relay passes each request on, and cuts every second answer."""
    collector = start(database=location)
    client = make_client(server.endpoint, max_batch_size=40)

    def relay(request: Request) -> Reply:
        names = ("content-type", "x-fl-api-key", "x-fl-sender", "x-fl-counts")
        sent = {name: request.headers[name] for name in names if name in request.headers}
        answer = requests.post(f"{collector.endpoint}trigger/", data=request.body, headers=sent, timeout=20)
        return Reply(answer.status_code, answer.content, act=reset if len(server.requests) % 2 else None)

    server.respond = relay
    for n in range(10):
        record(client, 77, start=77 * n)
        client.flush(0.02)
    assert client.flush(60)
    stats = client.stats()
    (sender,) = senders(collector)
    assert sender["says"] == f"{HOST}: recorded 770, dropped 0, arrived 770"
    assert (sender["stored"], sender["missing"], stats.delivered) == (770, 0, 770)
    assert collector.stats()["duplicates"] > 0


def test_a_collector_that_is_killed_has_what_it_says(
    location: str, tmp_path: Path, make_client: Callable[..., FocusLabClient]
) -> None:
    """At any time, again and again: arrived is what is stored, and all that was recorded at the end."""
    port = str(free_port())
    arguments = [*SERVE, "--port", port, "--store", location]
    client = make_client(f"http://127.0.0.1:{port}/api/v1/", max_batch_size=20)
    recorded = 0
    for kill in range(int(os.environ.get("KILLS", "3"))):
        with listening(arguments, Path(location)) as collector:
            delivered = client.stats().delivered
            while client.stats().delivered < delivered + 100 * (kill % 3 + 1):
                recorded += record(client, 20, start=recorded) if client.stats().queued < 1000 else 0
                eventually(lambda: client.stats().queued < 1000, 0.05)
            assert collector.process is not None
            collector.process.kill()
    with listening(arguments, Path(location)) as collector:
        assert client.flush(60)
        (sender,) = senders(collector)
        stored = collector.stats()["triggers"]
    assert (sender["arrived"], sender["stored"], stored) == (recorded, recorded, recorded)
    assert (sender["missing"], sender["delivered_before"], sender["waiting"]) == (0, 0, 0)


def test_a_collector_that_loses_its_file_is_found_out(
    start: Callable[..., Running], tmp_path: Path, make_client: Callable[..., FocusLabClient]
) -> None:
    """An old copy in its place has a gap; a new file says that more was delivered before."""
    port, database, copy = free_port(), tmp_path / "store", tmp_path / "copy"
    client = make_client(f"http://127.0.0.1:{port}/api/v1/")
    recorded = 0

    def run(number: int) -> dict[str, Any]:
        nonlocal recorded
        with listening([*SERVE, "--port", str(port), "--store", str(database)], database) as collector:
            recorded += record(client, number)
            assert client.flush(60)
            (sender,) = senders(collector)
            assert collector.process is not None
            collector.process.terminate()
            collector.process.wait()
        return sender

    before = run(100)
    shutil.copyfile(database, copy)
    run(50)
    shutil.copyfile(copy, database)
    old = run(7)
    assert (old["arrived"], old["missing"], old["missing_since"]) == (107, 50, before["last_seen"])
    assert old["says"] == (
        f"{HOST}: recorded 157, dropped 0, arrived 107; 50 that it delivered are missing here since "
        f"{before['last_seen']}"
    )
    database.unlink()
    new = run(3)
    assert (new["arrived"], new["missing"], new["delivered_before"]) == (3, 0, 157)
    assert "; 157 were delivered before it was first heard of here at " in new["says"]


def test_collectors_on_one_database_know_the_same(
    start: Callable[..., Running], postgresql: Any, make_client: Callable[..., FocusLabClient]
) -> None:
    """A balancer may send each batch to another one."""
    url = postgresql.empty_database()
    collectors = [start(database=url), start(database=url)]
    server = RecordingServer()

    def balance(request: Request) -> Reply:
        target = collectors[len(server.requests) % 2]
        names = ("content-type", "x-fl-api-key", "x-fl-sender", "x-fl-counts")
        sent = {name: request.headers[name] for name in names}
        answer = requests.post(f"{target.endpoint}trigger/", data=request.body, headers=sent, timeout=20)
        return Reply(answer.status_code, answer.content)

    server.respond = balance
    client = make_client(server.endpoint, max_batch_size=10)
    record(client, 1000)
    assert client.flush(60)
    client.close()
    server.stop()
    one, other = map(senders, collectors)
    assert one == other
    assert one[0]["says"] == f"{HOST}: recorded 1 000, dropped 0, arrived 1 000"


def test_what_is_dropped_is_told_with_the_next_batch(
    collector: Running, make_client: Callable[..., FocusLabClient]
) -> None:
    """With its reason."""
    client = make_client(collector.endpoint, max_queue_size=10, flush_interval=60)
    record(client, 13)
    assert client.flush(20)
    record(client, 1)
    assert client.flush(20)
    (sender,) = senders(collector)
    assert sender["says"] == f"{HOST}: recorded 14, dropped 3 (overflow 3), arrived 11"
