"""Bodies that are too large, too slow, or not what their headers say."""

from __future__ import annotations

import gzip
import json
import select
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from brockman.collector.request_body import DRAIN_BYTES
from tests.cli.conftest import listening
from tests.collector.running import Running, head, trigger
from tests.support.client import KEY

LIMIT = 100_000
CHUNK = b"2000\r\n" + b" " * 0x2000 + b"\r\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A collector with low limits."""
    database = tmp_path_factory.mktemp("small") / "triggers.sqlite3"
    options = {"port": 0, "database": str(database), "api_key": KEY, "max_body_bytes": LIMIT, "body_timeout": 1.0}
    code = "from brockman.collector.server import serve; from brockman.collector.settings import Settings; "
    code += f"serve(Settings(**{options!r}), on_ready=lambda url: print(url, flush=True))"
    with listening(["-c", code], database) as collector:
        yield collector


def works(collector: Running) -> bool:
    return collector.post(trigger()).status_code == 201


def test_a_body_at_the_limit_is_accepted_and_a_larger_one_is_not(small: Running) -> None:
    body = json.dumps(trigger()).encode()

    assert small.post(body + b" " * (LIMIT - len(body) + 1)).status_code == 413
    assert small.post(body + b" " * (LIMIT - len(body))).status_code == 201


def test_a_large_body_is_rejected_before_it_is_sent(small: Running) -> None:
    for length in (LIMIT + 1, 5_000_000_000):
        status, headers, body = small.exchange(head(f"Content-Length: {length}", "Expect: 100-continue"))

        assert (status, headers["connection"]) == (413, "close")
        assert "send at most 100000" in json.loads(body)["error"]


def test_a_client_that_sends_too_much_reads_the_response_and_keeps_its_connection(small: Running) -> None:
    for _ in range(3):
        assert small.post(b" " * (20 * LIMIT)).status_code == 413
    assert works(small)


def test_an_endless_chunked_body_is_cut_off(small: Running) -> None:
    sent = 0
    with small.connect() as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        with suppress(ConnectionResetError, BrokenPipeError):
            while not select.select([connection], [], [], 0)[0]:
                connection.sendall(CHUNK)
                sent += len(CHUNK)
                assert sent < LIMIT + 4 * DRAIN_BYTES
    assert sent > LIMIT
    assert works(small)


def test_a_chunked_body_that_is_too_large_gets_a_response(small: Running) -> None:
    chunks = CHUNK * (10 * LIMIT // len(CHUNK))

    status, headers, body = small.exchange(head("Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")

    assert (status, headers["connection"]) == (413, "close")
    assert "send at most that" in json.loads(body)["error"]


def test_a_chunked_body_within_the_limit_is_accepted(small: Running) -> None:
    body = json.dumps(trigger()).encode()
    chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])

    assert small.exchange(head("Transfer-Encoding: chunked") + chunked)[0] == 201


def test_a_body_that_does_not_arrive_times_out(small: Running) -> None:
    status, _, body = small.exchange(head("Content-Length: 100") + b"{")

    assert status == 408
    assert "within 1 s" in json.loads(body)["error"]
    assert works(small)


def test_a_client_that_disconnects_in_the_middle_stores_nothing(small: Running) -> None:
    sent = trigger()
    body = json.dumps(sent).encode()
    with small.connect() as connection:
        connection.sendall(head(f"Content-Length: {len(body) + 1}") + body)

    assert works(small)
    assert small.stored(id=sent["id"]) == []


@pytest.mark.parametrize("length", ["-1", "+5", "1_0", "٣", "0x10", "1 2", "9" * 40, "5, 6"])
def test_a_length_that_is_not_a_number_is_rejected(shared: Running, length: str) -> None:
    status, _, _ = shared.exchange(head(f"Content-Length: {length}") + b"{}")

    assert status == 400
    assert works(shared)


def test_a_length_and_chunks_together_are_rejected(shared: Running) -> None:
    status, _, _ = shared.exchange(head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n")

    assert status == 400


def test_bytes_beyond_the_declared_length_are_not_part_of_the_body(small: Running) -> None:
    sent = trigger()
    body = json.dumps(sent).encode()

    assert small.exchange(head(f"Content-Length: {len(body) - 1}") + body)[0] == 400
    assert small.stored(id=sent["id"]) == []


def test_the_limit_also_holds_after_decompression(small: Running) -> None:
    body = json.dumps(trigger()).encode()
    fits, beyond = (gzip.compress(body + b" " * (LIMIT - len(body) + more)) for more in (0, 1))

    assert small.post(fits, {"Content-Encoding": "gzip"}).status_code == 201
    assert small.post(beyond, {"Content-Encoding": "gzip"}).status_code == 413


def test_a_gzip_bomb_does_not_grow_the_process(spawn: Callable[..., Running]) -> None:
    collector = spawn()
    assert collector.process is not None
    compressor = zlib.compressobj(1, wbits=31)
    bomb = b"".join(compressor.compress(bytes(2**20)) for _ in range(300)) + compressor.flush()
    before = peak_memory(collector.process.pid)

    assert collector.post(bomb, {"Content-Encoding": "gzip"}).status_code == 413

    assert peak_memory(collector.process.pid) - before < 60 * 2**20


def peak_memory(pid: int) -> int:
    """Return bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda body: b"",
        lambda body: body[:-1],
        lambda body: body[:10],
        lambda body: body + b"\x00",
        lambda body: body + body,
        lambda body: body[:-5] + bytes([body[-5] ^ 1]) + body[-4:],
        lambda body: zlib.compress(b"{}"),
        lambda body: b"{}",
    ],
)
def test_damaged_gzip_is_rejected(shared: Running, damage: Callable[[bytes], bytes]) -> None:
    sent = trigger()
    body = damage(gzip.compress(json.dumps(sent).encode()))

    response = shared.post(body, {"Content-Encoding": "gzip"})

    assert response.status_code == 400
    assert "gzip" in response.json()["error"]
    assert shared.stored(id=sent["id"]) == []
