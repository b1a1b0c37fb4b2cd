"""`brockman serve` on PostgreSQL: several processes on one database, killed at random; no password shown."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from brockman.collector.store import open_store
from brockman.collector.store.values import Query
from tests.cli.conftest import command, listening
from tests.collector.killing import Senders
from tests.collector.running import Running, head, read_response, trigger
from tests.support.client import KEY
from tests.support.postgresql import PASSWORD, QUOTED_PASSWORD, Postgresql
from tests.support.programs import environment, free_port, ran, started
from tests.support.waiting import eventually

SERVE = ["-m", "brockman", "serve"]


@contextmanager
def serving(url: str, port: int = 0) -> Iterator[Running]:
    arguments = [*SERVE, "--port", str(port), "--store", url]
    with listening(arguments, Path(url)) as collector:
        yield collector


def test_two_collectors_on_one_database_are_one_store(postgresql: Postgresql) -> None:
    url = postgresql.empty_database()
    with serving(url) as one, serving(url) as other:
        sent = [trigger(variables={"n": n}) for n in range(4)]
        assert one.post(sent[:3]).json()["accepted"] == 3
        assert other.post(sent[2:]).json() == {"accepted": 2, "repeated": 1}
        assert one.post(sent[3]).json() == {"id": sent[3]["id"], "repeated": True}
        assert one.stored() == other.stored() == sent
        assert (
            one.stats()
            == other.stats()
            == {"triggers": 4, "duplicates": 2, "rejected": 0, "requests": 3, "removed": 0}
        )


def test_every_character_that_json_has_is_stored(postgresql: Postgresql) -> None:
    """NUL too, which PostgreSQL's text has not."""
    with serving(postgresql.empty_database()) as collector:
        text = "\0 \\u0000 \ufdd0 \ufffe 😀 \u2028 \x7f"
        sent = trigger(actor_id=text, action=text, object=text, variables={text: [text]})
        assert collector.post([trigger(), sent]).status_code == 201
        assert collector.stored(actor_id=text, action=text, object=text) == [sent]
        assert len(collector.stored()) == 2


def read_ids(url: str) -> Iterator[str]:
    with closing(open_store(url)) as store:
        after: int | None = 0
        while after is not None:
            page = store.page(Query(limit=10_000, after=after))
            yield from (json.loads(body)["id"] for body in page.bodies)
            after = page.next


def test_it_ends_although_the_database_does_not_react(postgresql: Postgresql) -> None:
    """A stopped one keeps its connections open. The request that waits for it is answered."""
    with serving(postgresql.empty_database()) as collector, collector.connect() as connection:
        assert collector.process is not None
        assert collector.post(trigger()).status_code == 201
        stopped = postgresql.processes()
        try:
            for process in stopped:
                os.kill(process, signal.SIGSTOP)
            body = json.dumps(trigger()).encode()
            connection.sendall(head(f"Content-Length: {len(body)}") + body)
            assert collector.exchange(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 404
            collector.process.terminate()
            assert collector.process.wait(20) == 0
            assert read_response(connection)[0] == 503
        finally:
            for process in stopped:
                os.kill(process, signal.SIGCONT)


def test_a_kill_loses_nothing_that_was_acknowledged(postgresql: Postgresql) -> None:
    """One of two collectors is killed at any time; each acknowledged trigger is stored once."""
    url, ports = postgresql.empty_database(), [free_port(), free_port()]
    with serving(url, ports[0]), Senders(ports) as senders:
        for _ in range(3):
            with serving(url, ports[1]) as collector:
                goal = senders.goal()
                assert eventually(lambda goal=goal: len(senders.acknowledged) > goal)
                assert collector.process is not None
                collector.process.kill()
    stored = Counter(read_ids(url))
    assert set(stored.values()) == {1}
    assert set(senders.acknowledged) == set(stored)


@pytest.mark.parametrize("form", ["--store {}", "--database={}", "FL_STORE"])
def test_no_password_is_shown_by_the_process(postgresql: Postgresql, tmp_path: Path, form: str) -> None:
    """In its arguments, which every user can read, in its output, and in its errors."""
    name = f"server_{uuid.uuid4().hex[:8]}"
    postgresql.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    database = postgresql.create_database(f"OWNER {name}").partition("@/")[2].partition("?")[0]
    shown = f"postgresql://{name}@127.0.0.1:{postgresql.port}/{database}"
    url = shown.replace("@", f":{QUOTED_PASSWORD}@", 1)
    arguments = [] if form == "FL_STORE" else form.format(url).split(" ")
    variables = {"FL_STORE": url} if form == "FL_STORE" else {}
    with started(
        command("serve", "--port", "0", *arguments), cwd=tmp_path, env=environment(**variables)
    ) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[2] == f"database     {shown}\n"
        assert b"4711" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        postgresql.execute(f"ALTER ROLE {name} NOLOGIN")
        postgresql.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}'")
        endpoint = lines[0].removeprefix("listening on ").strip()
        answer = requests.post(f"{endpoint}trigger/", json=trigger(), headers={"X-FL-API-KEY": KEY}, timeout=20)
        process.terminate()
        out, err = process.communicate()
    assert (answer.status_code, answer.json()) == (
        503,
        {"error": "triggers cannot be stored: no connection to PostgreSQL"},
    )
    assert "triggers cannot be stored" in err
    assert "4711" not in out + err + "".join(lines)
    assert process.returncode == 0


@pytest.mark.parametrize("url", ["mysql://ada:s3cret@127.0.0.1/x", "postgresql://ada:s3cret@127.0.0.1:1/x"])
def test_a_store_that_cannot_be_used_is_reported_in_one_line(tmp_path: Path, url: str) -> None:
    ended = ran(command("serve", "--port", "0", "--store", url), cwd=tmp_path)

    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("brockman serve: database: ")
    assert ended.err.count("\n") == 1
    assert "s3cret" not in ended.err
    assert list(tmp_path.iterdir()) == []
