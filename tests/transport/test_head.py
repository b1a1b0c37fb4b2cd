"""Heads of answers that are too long, broken or senseless: a status that was read is believed."""

from __future__ import annotations

import contextlib
import time

import pytest

from brockman.exceptions import ConnectionFailed
from brockman.options.secret import Secret
from brockman.transport.http import HttpTransport
from tests.support.client import KEY, record
from tests.support.server import Reply, reset

CREATED = b"HTTP/1.1 201 Created\r\n"
EMPTY = b"Content-Length: 0\r\n\r\n"
MANY = b"".join(b"X-Header-%d: x\r\n" % number for number in range(3000))

HEADS = {
    "3000 headers": CREATED + MANY + EMPTY,
    "3000 headers of a 100 before": b"HTTP/1.1 100 Continue\r\n" + MANY + b"\r\n" + CREATED + EMPTY,
    "3000 headers of a 103 before": b"HTTP/1.1 103 Early Hints\r\n" + MANY + b"\r\n" + CREATED + EMPTY,
    "many headers of one name": CREATED + b"Date: x\r\n" * 300 + EMPTY,
    "a line of 200 KB": CREATED + b"X-Long: " + b"x" * 200_000 + b"\r\n" + EMPTY,
    "a value of 200 KB that is read": CREATED + b"Location: " + b"x" * 200_000 + b"\r\n" + EMPTY,
    "a folded value": CREATED + b"X-Folded: a\r\n  b\r\n\tc\r\nContent-Length:\r\n 0\r\n\r\n",
    "a line without a colon": CREATED + b"what is this\r\n" + EMPTY,
    "a blank line's worth of blanks": CREATED + b" \r\n" + EMPTY,
    "bytes that are no text": CREATED + b"X-\xff\x00: \xfe\rDate: \x00\r\n" + EMPTY,
    "a blank before the colon": CREATED + b"Content-Length : 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 201 Created\nContent-Length: 0\n\n",
    "the same length twice": CREATED + b"Content-Length: 0\r\n" + EMPTY,
    "no reason": b"HTTP/1.1 201\r\n" + EMPTY,
    "a reason of junk": b"HTTP/1.1  201 \xff\xfe<b>\r\n" + EMPTY,
    "a reason of 200 KB": b"HTTP/1.1 201 " + b"x" * 200_000 + b"\r\n" + EMPTY,
}
# The connection cannot be used again after these.
BROKEN = {
    "no end within 1 MiB": CREATED + MANY * 30,
    "an endless line": CREATED + b"X-Long: " + b"x" * 3_000_000,
    "a length that is none": CREATED + b"Content-Length: many\r\n\r\n",
    "a negative length": CREATED + b"Content-Length: -5\r\n\r\n",
    "two lengths": CREATED + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two lengths in one": CREATED + b"Content-Length: 2, 3\r\n\r\n{}",
    "a bad size of a chunk": CREATED + b"Transfer-Encoding: chunked\r\n\r\nsize\r\n{}\r\n",
    "a negative size of a chunk": CREATED + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n",
    "a size of a chunk of 200 KB": CREATED + b"Transfer-Encoding: chunked\r\n\r\n" + b"0" * 200_000,
    "a long trailer": CREATED + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
}


@pytest.fixture
def transport(server):
    made = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=20, read_timeout=20)
    yield made
    made.close()


def says(data: bytes, *, then_reset: bool = False) -> Reply:
    """Make a reply of these bytes, after which the connection stays open for a while, or is reset."""

    def act(server, connection) -> None:
        with contextlib.suppress(OSError):  # it is closed when it has read enough
            connection.sendall(data)
            if not then_reset:
                connection.settimeout(30)
                connection.recv(1)
        if then_reset:
            reset(server, connection)

    return Reply(act=act)


@pytest.mark.parametrize("head", [*HEADS, *BROKEN])
def test_a_201_with_any_headers_is_a_201(server, transport, head):
    """It is read at once, whatever follows the status line, and the next request gets its own answer."""
    reply = says({**HEADS, **BROKEN}[head])
    server.respond = lambda request: Reply(400) if server.requests else reply
    begun = time.monotonic()
    assert transport.send(b"{}").status == 201
    assert time.monotonic() - begun < 10  # half of the read timeout
    with contextlib.suppress(ConnectionFailed):  # the server has hung up after its first answer
        assert transport.send(b"{}").status == 400
        return
    assert transport.send(b"{}").status == 400


@pytest.mark.parametrize("head", ["3000 headers", "a line of 200 KB", "a length that is none", "two lengths"])
def test_triggers_that_a_strange_answer_accepts_are_sent_once(server, make_client, head):
    """A client has delivered them, and does not send them again."""
    server.respond = lambda request: says({**HEADS, **BROKEN}[head])
    client = make_client()
    record(client, 3)
    assert client.flush(20)
    assert client.stats().delivered == 3
    assert sorted(server.ids().values()) == [1, 1, 1]


def test_a_head_that_is_reset_leaves_a_status(server, transport):
    """The status line came, and the connection broke within the headers."""
    server.respond = lambda request: says(CREATED + b"Date: x\r\nX-", then_reset=True)
    assert transport.send(b"{}").status == 201


def test_headers_that_matter_are_read_among_many(server, transport):
    """Retry-After, Date, Location, Content-Type, the body: after thousands of others, folded, in any case."""
    words = b"CONTENT-TYPE: text/plain\r\nretry-after: 7\r\nDate:\r\n x\r\nLocation: /y\r\n"
    server.respond = lambda request: says(
        b"HTTP/1.1 503 Busy\r\n" + MANY + words + b"Content-Length: 4\r\n\r\nwait"
    )
    answer = transport.send(b"{}")
    assert (answer.status, answer.content_type, answer.retry_after) == (503, "text/plain", "7")
    assert (answer.date, answer.location, answer.body) == ("x", "/y", b"wait")


def test_a_body_of_no_certain_length_is_not_complete(server, transport):
    """A 207 whose results have none cannot tell which triggers were accepted."""
    server.respond = lambda request: says(b'HTTP/1.1 207 X\r\nContent-Length: many\r\n\r\n{"rejected": []}')
    answer = transport.send(b"{}")
    assert (answer.status, answer.body, answer.is_complete) == (207, b"", False)
