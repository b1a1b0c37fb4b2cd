"""A web page that refuses triggers is no verdict on them: it was said by a proxy or the wrong server."""

from __future__ import annotations

import gc
import itertools
import tracemalloc

import pytest

from brockman.delivery.engine import Settled
from brockman.transport import Answer
from tests.support.engine import OK, Bench, is_array, numbers

PAGE = b"<html><head><title>400 Bad Request</title></head><body>nginx</body></html>"
JSON = b'{"error": "no such plan"}'


def refuses(poison: set[int], status: int = 400):
    """Return a server that refuses every request with one of these triggers by page."""
    return lambda body: Answer(status, PAGE) if poison & set(numbers(body)) else OK


@pytest.mark.parametrize("status", [400, 405, 415, 422, 501, 418])
@pytest.mark.parametrize("count", [1, 2, 700])
def test_a_server_that_answers_only_pages_loses_nothing(status, count, caplog):
    """A maintenance page, the wrong port, the wrong server: held, until the API itself speaks."""
    bench = Bench([*[Answer(status, PAGE, "text/html")] * 60, *[OK] * 900])
    bench.deliver(count)
    assert (bench.counters.delivered, bench.counters.rejected) == (count, 0)
    assert {seconds for seconds, _ in bench.waits} <= {30, 60, 120, 240, 300}
    (line,) = [record.getMessage() for record in caplog.records if "answers 4" in record.getMessage()] or [""]
    assert status >= 500 or ("400 Bad Request" in line and "FL_ENDPOINT" in line)


def test_a_server_that_only_fails_is_said_to_be_away_once(caplog):
    """A trigger that is rejected after ten 500s is no sign that the service is back."""
    bench = Bench([*[Answer(500, PAGE)] * 25, OK], max_attempts=3)
    bench.deliver(9)
    assert bench.counters.rejected > 1
    lines = [line for line in caplog.messages if "unavailable" in line or "again" in line]
    assert ["unavailable" in line for line in lines] == [True, False]


@pytest.mark.parametrize("status", [400, 415, 422, 418])
@pytest.mark.parametrize(
    "poison", [{0}, {617}, {999}, {0, 1}, {498, 499, 500}, {10, 20, 30}, set(range(100, 170))]
)
def test_a_real_refusal_by_page_is_found(status, poison):
    """The others vouch for it: they are delivered, each once, and only the poison is rejected."""
    bench = Bench(refuses(poison, status))
    bench.deliver(1000)
    assert (bench.counters.delivered, bench.counters.rejected) == (1000 - len(poison), len(poison))
    assert {number for _, refused in bench.refused for number in refused} == poison
    accepted = [number for sent in bench.sent if not poison & set(sent) for number in sent]
    assert sorted(accepted) == [number for number in range(1000) if number not in poison]


def test_a_lone_refusal_by_page_is_believed_after_an_accepted_trigger():
    """One acceptance before it vouches for one: the next is held until another trigger is accepted."""
    bench = Bench(refuses({1, 2}), max_waits=2)
    bench.deliver(1)
    bench.deliver(1, start=1)
    assert (bench.counters.rejected, bench.waits) == (1, [])
    bench.deliver(1, start=2)
    assert (bench.counters.rejected, len(bench.waits)) == (1, 2)


def test_a_trigger_refused_by_page_first_of_all_waits_for_another_one():
    """It is sent with what was recorded meanwhile, and rejected once that is accepted."""
    bench = Bench(refuses({0}), max_waits=2)
    bench.deliver(1)
    assert (bench.counters.rejected, len(bench.waits), len(bench.buffer)) == (0, 2, 0)
    bench.max_waits = 99
    bench.deliver(1, start=1)
    assert (bench.counters.delivered, bench.counters.rejected) == (1, 1)


def test_a_batch_of_refusals_by_page_is_taken_with_what_waits_behind_it():
    """After a batch that a page refuses whole, longer ones are tried, until one trigger is accepted."""
    bench = Bench(refuses(set(range(40))), max_batch_size=10, max_waits=20)
    for number in range(60):
        bench.buffer.put(b'{"n": %d}' % number)
    while len(bench.buffer) or bench.buffer.in_flight:
        bench.deliver(0)
    assert (bench.counters.delivered, bench.counters.rejected) == (20, 40)


def test_triggers_taken_to_vouch_for_others_make_no_longer_array():
    """An endpoint that has not accepted an array is sent none with more than `max_batch_size` triggers."""
    for pages in range(40):
        replies = itertools.chain([Answer(400, PAGE)] * pages, itertools.repeat(OK))
        bench = Bench(lambda body, replies=replies: next(replies), max_batch_size=5)
        bench.deliver(60)
        lengths = [len(numbers) for numbers in bench.sent]
        first_array = next((length for length in lengths[pages:] if length > 1), 0)
        assert bench.counters.delivered == 60
        assert max(first_array, *lengths[:pages], 0) <= 5, pages


def test_a_maintenance_that_ends_in_the_middle_loses_nothing():
    """Whenever it begins and ends, between any two requests: each trigger is delivered once."""
    for begin, length in itertools.product(range(14), (1, 2, 3, 8, 20)):
        replies = itertools.chain([OK] * begin, [Answer(400, PAGE)] * length, itertools.repeat(OK))
        accepted: list[int] = []

        def reply(body: bytes, replies=replies, accepted=accepted) -> Answer:
            answer = next(replies)
            accepted += numbers(body) if answer is OK else []
            return answer

        bench = Bench(reply, max_batch_size=4)
        bench.deliver(30)
        assert (bench.counters.delivered, bench.counters.rejected) == (30, 0), (begin, length)
        assert sorted(accepted) == list(range(30))


def test_a_refusal_in_words_is_a_verdict():
    """JSON or plain text is the API's own: a single trigger is rejected at once."""
    for words in (JSON, b"no such plan", b""):
        bench = Bench([Answer(400, words)])
        bench.deliver(1)
        assert (bench.counters.rejected, bench.waits) == (1, [])


def test_a_trigger_refused_in_words_behind_a_page_is_settled_in_its_turn():
    """A trigger sent ahead of its turn is not sent again, whatever became of it."""

    def reply(body: bytes) -> Answer:
        if is_array(body):
            return Answer(400, JSON)
        return {0: Answer(400, PAGE), 1: Answer(422, JSON), 2: Answer(500)}.get(numbers(body)[0], OK)

    bench = Bench(reply, max_attempts=2)
    bench.deliver(6)
    assert (bench.counters.delivered, bench.counters.rejected) == (3, 3)
    assert [refused for _, refused in bench.refused] == [[0], [1], [2]]
    assert sum(numbers == [1] for numbers in bench.sent) == 1
    assert sum(numbers == [3] for numbers in bench.sent) == 1


def test_refusals_of_triggers_that_are_delivered_elsewhere_are_forgotten():
    """A Celery broker takes them back after one attempt: a long outage takes no memory."""

    def reply(body: bytes) -> Answer:
        return Answer(400, PAGE if is_array(body) or numbers(body)[0] % 2 == 0 else JSON)

    bench = Bench(reply)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(0, 200, 2):
            bodies = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * 10_000) for n in (number, number + 1)]
            assert all(not isinstance(event, Settled) for event in bench.engine.deliver(bodies, once=True))
            bench.transport.bodies.clear()
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_an_outage_between_suspects_loses_nothing():
    """A 503 while another trigger is asked for: all wait, and nothing is sent twice that was accepted."""
    for at in range(1, 25):
        replies = itertools.count(1)
        accepted: list[int] = []

        def reply(body: bytes, at=at, replies=replies, accepted=accepted) -> Answer:
            if at <= next(replies) < at + 3:
                return Answer(503)
            if {3, 4} & set(numbers(body)):
                return Answer(400, PAGE)
            accepted += numbers(body)
            return OK

        bench = Bench(reply)
        bench.deliver(9)
        assert (bench.counters.delivered, bench.counters.rejected) == (7, 2), at
        assert sorted(accepted) == [0, 1, 2, 5, 6, 7, 8]


@pytest.mark.parametrize("broken", [0, 1])
def test_a_balancer_with_one_broken_server_loses_nothing(broken):
    """Every second request is answered by a page: all triggers are delivered, none is rejected."""
    turns = itertools.count()
    bench = Bench(lambda body: Answer(400, PAGE) if next(turns) % 2 == broken else OK)
    bench.deliver(50)
    assert (bench.counters.delivered, bench.counters.rejected) == (50, 0)


def test_refusals_by_page_with_one_accepted_trigger_behind_them_are_believed():
    """Two of three are refused by page, and nothing else waits: all are settled, the third as delivered."""
    bench = Bench(refuses({0, 1}))
    bench.deliver(3)
    assert (bench.counters.delivered, bench.counters.rejected, bench.waits) == (1, 2, [])


def test_a_refusal_that_cannot_be_decoded_is_no_verdict():
    """A page in brotli is a page as well."""
    bench = Bench([*[Answer(400, b"\x0b\x02\x80ok\x03", content_encoding="br")] * 20, *[OK] * 20])
    bench.deliver(5)
    assert (bench.counters.delivered, bench.counters.rejected) == (5, 0)


NOT_UNDERSTOOD = {
    "Go": b"Client sent an HTTP request to an HTTPS server.\n",
    "Tomcat": b"Bad Request\r\nThis combination of host and port requires TLS.\r\n",
    "Cheroot": b"The client sent a plain HTTP request, but this server only speaks HTTPS on this port.",
    "uvicorn": b"Invalid HTTP request received.",
    "a proxy": b"400: SSL required",
}


@pytest.mark.parametrize("words", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
@pytest.mark.parametrize("status", [400, 426])
def test_a_text_about_tls_or_http_is_no_verdict(words, status, caplog):
    """A server that did not understand the request speaks in plain text: held, with its words in the log."""
    bench = Bench([*[Answer(status, words, "text/plain")] * 20, *[OK] * 20])
    bench.deliver(5)
    assert (bench.counters.delivered, bench.counters.rejected) == (5, 0)
    assert "check endpoint (FL_ENDPOINT)" in caplog.text
    assert " ".join(words.decode().split()) in caplog.text


def test_a_refusal_that_names_https_rejects_when_others_are_accepted():
    """An API may say the same of one trigger."""
    bench = Bench(lambda body: Answer(400, b"url has to be https") if 3 in numbers(body) else OK)
    bench.deliver(5)
    assert (bench.counters.delivered, bench.counters.rejected, bench.waits) == (4, 1, [])
    for words in (b'{"error": "url has to be https"}', b"see https://example.com/docs"):
        bench = Bench([Answer(400, words)])
        bench.deliver(1)
        assert (bench.counters.rejected, bench.waits) == (1, [])


def test_a_limit_of_bytes_keeps_no_trigger_from_vouching():
    """A large trigger that a page refuses is sent with others behind it, however small requests have to be."""
    bench = Bench(lambda body: Answer(413) if is_array(body) else refuses({0})(body))
    bench.deliver(1, size=3000)
    bench.engine.limits.size.refused(10)
    for number in range(1, 20):
        bench.buffer.put(b'{"n": %d}' % number)
    bench.max_waits = 50
    bench.deliver(0)
    assert (bench.counters.delivered, bench.counters.rejected) == (19, 1)


def test_a_trigger_that_was_accepted_ahead_is_settled_at_the_end():
    """The service goes away before the refusal is confirmed, and the client closes: counts are the server's."""
    replies = iter([Answer(400, JSON), Answer(400, PAGE), OK, Answer(503), Answer(503)])
    bench = Bench(lambda body: next(replies))
    left = iter([None, None, None, None, None, None, None, 1.0, 1.0, 0.0])
    settled = [
        event
        for event in bench.engine.deliver([b'{"n": 0}', b'{"n": 1}'], lambda: next(left))
        if isinstance(event, Settled)
    ]
    assert [event.is_accepted for event in settled] == [False, True]


def test_large_triggers_that_a_page_refuses_keep_none_back():
    """More of them than a request has bytes for: those behind them are delivered."""
    bench = Bench(refuses(set(range(40))), max_waits=20)
    bench.deliver(60, size=30_000)
    assert (bench.counters.delivered, bench.counters.rejected) == (20, 40)
