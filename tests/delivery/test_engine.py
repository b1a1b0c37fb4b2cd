"""Delivery, answer by answer: the status table of the API, halving, partial answers, holding, limits."""

from __future__ import annotations

import json
import logging

import pytest

from brockman.exceptions import BadRequest, ConnectionFailed, ServerError
from brockman.transport import Answer
from tests.support.engine import OK, Bench, is_array, numbers

REFUSALS = [400, 415, 422]
OUTAGES = [408, 425, 429, 502, 503, 504]
SETUPS = [401, 403, 404, 301, 302, 307, 308, 102]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_delivers_the_whole_batch(status):
    """A success settles every trigger with one request."""
    bench = Bench([Answer(status)])
    bench.deliver(7)
    assert bench.sent == [list(range(7))]
    assert (bench.counters.delivered, bench.counters.rejected, bench.waits) == (7, 0, [])


@pytest.mark.parametrize("status", REFUSALS)
def test_a_poison_trigger_is_found_by_halving_and_alone_is_rejected(status):
    """Of 1000 with one poison, 999 are delivered for about 2 log2 extra requests, and on_error has the words."""
    bench = Bench(lambda body: Answer(status, b"no such plan") if 617 in numbers(body) else OK)
    bench.deliver(1000)
    assert (bench.counters.delivered, bench.counters.rejected) == (999, 1)
    assert len(bench.sent) - 2 <= 2 * 10  # two batches of 500, and two requests for each of nine or ten halvings
    ((error, refused),) = bench.refused
    assert refused == [617]
    assert "no such plan" in str(error)
    assert error.status == status
    assert bench.waits == []


def test_halving_delivers_in_order():
    """The older half goes first: what is accepted is accepted in the order of recording."""
    accepted: list[int] = []

    def reply(body: bytes) -> Answer:
        if 5 in numbers(body):
            return Answer(400)
        accepted.extend(numbers(body))
        return OK

    Bench(reply).deliver(16)
    assert accepted == [n for n in range(16) if n != 5]


@pytest.mark.parametrize("status", [400, 500, 415, 501])
def test_a_server_that_knows_no_arrays_gets_single_objects_at_once(status):
    """It refuses (or crashes on) every array and takes objects: all is delivered, without a wait."""
    bench = Bench(lambda body: Answer(status) if is_array(body) else OK)
    bench.deliver(1500)
    assert (bench.counters.delivered, bench.counters.rejected, bench.waits) == (1500, 0, [])
    arrays = [numbers for numbers in bench.sent if len(numbers) > 1]
    assert len(arrays) == 9  # 500, 250, 125, ..., 2 or 3: then it was learned
    assert len(bench.sent) == 1500 + 9


def test_after_a_minute_an_array_is_tried_again():
    """That a server takes no arrays is remembered for a minute at first: it may have been in trouble."""
    knows_arrays = False
    bench = Bench(lambda body: Answer(400) if is_array(body) and not knows_arrays else OK)
    bench.deliver(4)
    knows_arrays = True
    bench.now += 59
    bench.deliver(4)
    assert not any(len(numbers) > 1 for numbers in bench.sent[-4:])
    bench.now += 2
    bench.deliver(4)
    assert len(bench.sent[-1]) == 4


@pytest.mark.parametrize("poison", range(6))
def test_a_poison_trigger_never_makes_the_client_give_up_arrays(poison):
    """Wherever the poison is, arrays are sent again afterwards."""
    bench = Bench(lambda body: Answer(400) if poison in numbers(body) else OK)
    bench.deliver(6)
    bench.deliver(6, start=100)
    assert len(bench.sent[-1]) == 6


def test_a_500_to_an_array_is_retried_once_arrays_are_known_to_work():
    """After a first accepted array a 500 is a fault that may pass: the same bytes go again, after a wait."""
    bench = Bench([OK, Answer(500), OK])
    bench.deliver(2)
    bench.deliver(2, start=10)
    assert bench.sent == [[0, 1], [10, 11], [10, 11]]
    assert bench.transport.bodies[1] == bench.transport.bodies[2]
    assert len(bench.waits) == 1
    assert bench.counters.retries == 1


def test_a_batch_that_always_meets_a_500_is_halved_after_max_attempts():
    """A poison that crashes the server is found, and is rejected after max_attempts of its own."""
    replies = iter([OK])
    bench = Bench(lambda body: next(replies, None) or (Answer(500) if 13 in numbers(body) else OK), max_attempts=3)
    bench.deliver(2)
    bench.deliver(4, start=10)
    assert (bench.counters.delivered, bench.counters.rejected) == (5, 1)
    assert bench.sent[1:4] == [[10, 11, 12, 13]] * 3
    assert bench.sent[4:] == [[10, 11], [12, 13], [12], [13], [13], [13]]  # [12, 13] once: [10, 11] was accepted
    assert isinstance(bench.refused[0][0], ServerError)


def test_a_single_trigger_that_meets_a_500_is_retried_up_to_max_attempts():
    """The default is ten attempts, with waits in between; then it is rejected."""
    bench = Bench(lambda body: Answer(500))
    bench.deliver(1)
    assert (len(bench.sent), bench.counters.rejected, len(bench.waits)) == (10, 1, 9)


@pytest.mark.parametrize("status", OUTAGES)
def test_an_outage_is_waited_out_with_growing_backoff(status):
    """Nothing is dropped, however long; the waits double up to the cap; the same bytes go each time."""
    bench = Bench([*[Answer(status)] * 12, OK])
    bench.deliver(3)
    assert (bench.counters.delivered, bench.counters.rejected) == (3, 0)
    assert [seconds for seconds, _ in bench.waits] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    assert len(set(bench.transport.bodies)) == 1
    assert bench.counters.retries == 12


def test_no_answer_is_an_outage():
    """A connection that fails is waited out like a 503."""
    bench = Bench([*[ConnectionFailed("refused")] * 3, OK])
    bench.deliver(3)
    assert (bench.counters.delivered, len(bench.waits)) == (3, 3)
    assert bench.counters.last_error == "refused"


def test_a_stale_connection_is_sent_over_again_at_once():
    """The reset of a kept-alive connection costs no wait; if the fresh one fails too, that is an outage."""
    bench = Bench([ConnectionFailed("reset", stale=True), OK])
    bench.deliver(2)
    assert (bench.counters.delivered, bench.waits, bench.counters.retries) == (2, [], 1)
    bench = Bench([ConnectionFailed("reset", stale=True), ConnectionFailed("refused"), OK])
    bench.deliver(2)
    assert (bench.counters.delivered, len(bench.waits)) == (2, 1)


@pytest.mark.parametrize("status", SETUPS)
def test_a_wrong_set_up_holds_everything_and_says_what_to_change(status, caplog):
    """Nothing is dropped; waits from 30 s to 5 min; one line names the setting, one says that it is over."""
    caplog.set_level(logging.INFO)
    bench = Bench([*[Answer(status, location="https://elsewhere.example/")] * 6, OK])
    bench.deliver(3)
    assert (bench.counters.delivered, bench.counters.rejected) == (3, 0)
    assert [seconds for seconds, _ in bench.waits] == [30, 60, 120, 240, 300, 300]
    begun, ended = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert begun.startswith("brockman: ")
    assert "FL_ENDPOINT" in begun or "FL_API_KEY" in begun
    assert "answers again" in ended


def test_an_html_page_is_no_success():
    """A 200 with a portal's page in it holds; an empty 201 that calls itself text/html is believed."""
    bench = Bench([Answer(200, b"<!DOCTYPE html><p>Log in", "text/html"), Answer(201, b"", "text/html")])
    bench.deliver(2)
    assert (bench.counters.delivered, len(bench.sent)) == (2, 2)
    assert [seconds for seconds, _ in bench.waits] == [30]


def test_one_warning_when_an_outage_begins_and_one_line_when_it_ends(caplog):
    """Twenty failed attempts are two lines on the log."""
    caplog.set_level(logging.INFO)
    bench = Bench([*[Answer(503)] * 20, OK])
    bench.deliver(3)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_an_unreadable_207_to_a_single_trigger_holds_it():
    """It is unknown whether it was accepted; once the answer can be read, it is settled."""
    bench = Bench([Answer(207, b"garbled"), Answer(207, b"garbled"), Answer(207, b'{"rejected": []}')])
    bench.deliver(1)
    assert (bench.counters.delivered, [seconds for seconds, _ in bench.waits]) == (1, [30, 60])


def test_each_attempt_is_a_line_at_level_debug(caplog):
    """Count, bytes, status and time of every request: the log at DEBUG shows what went over the wire."""
    caplog.set_level(logging.DEBUG, "brockman")
    bench = Bench([ConnectionFailed("refused"), OK])
    bench.deliver(3)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    size = len(bench.transport.bodies[0])
    assert lines == [
        f"brockman: sent 3 triggers, {size} bytes: refused in 0 ms",
        f"brockman: sent 3 triggers, {size} bytes: 201 in 0 ms",
    ]


def test_retry_after_is_obeyed_in_seconds_and_as_a_date():
    """The wait is at least what the server asks for, measured on the server's own clock, at most 5 min."""
    date = "Mon, 23 Nov 2026 12:00:00 GMT"
    later = "Mon, 23 Nov 2026 12:00:20 GMT"
    bench = Bench(
        [
            Answer(503, retry_after="7"),
            Answer(429, retry_after=later, date=date),
            Answer(503, retry_after="86400"),
            Answer(503, retry_after="nonsense"),
            OK,
        ]
    )
    bench.deliver(1)
    assert [asked for _, asked in bench.waits] == [True, True, True, False]
    waits = [seconds for seconds, _ in bench.waits]
    assert 7 <= waits[0] <= 8
    assert 20 <= waits[1] <= 21
    assert 300 <= waits[2] <= 301
    assert waits[3] == 4.0  # the fourth failure's backoff


def test_413_halves_and_remembers_a_smaller_limit():
    """No further request is as large as the one that was too large; nothing is lost."""
    limit = 4000
    bench = Bench(lambda body: Answer(413) if len(body) > limit else OK)
    bench.deliver(600, size=50)
    assert (bench.counters.delivered, bench.counters.rejected) == (600, 0)
    too_large = [body for body in bench.transport.bodies if len(body) > limit]
    sizes = [len(body) for body in too_large]
    assert sizes == sorted(sizes, reverse=True)
    assert len(too_large) <= 4  # each halves the limit; the second batch of 500 is already cut to size
    bench.deliver(600, start=1000, size=50)
    assert [body for body in bench.transport.bodies if len(body) > limit] == too_large


def test_a_single_trigger_that_is_too_large_is_rejected():
    """413 to one object rejects it, with the server's words; the others are delivered."""
    bench = Bench(lambda body: Answer(413, b"at most 1 KB") if len(body) > 1000 else OK)
    bench.deliver(1, size=2000)
    bench.deliver(1, start=1)
    assert (bench.counters.delivered, bench.counters.rejected) == (1, 1)
    assert "at most 1 KB" in str(bench.refused[0][0])


def test_a_207_settles_each_trigger_on_its_own():
    """The listed ones are rejected with their own words, the others delivered, with one request."""
    rejections = {"rejected": [{"index": 3, "error": "no such plan"}, {"index": 0, "error": "blocked"}]}
    bench = Bench([Answer(207, json.dumps(rejections).encode())])
    bench.deliver(5)
    assert (bench.counters.delivered, bench.counters.rejected, len(bench.sent)) == (3, 2, 1)
    assert [(numbers, error.words) for error, numbers in bench.refused] == [
        ([0], "blocked"),
        ([3], "no such plan"),
    ]
    assert all(isinstance(error, BadRequest) for error, _ in bench.refused)


@pytest.mark.parametrize(
    "rejected",
    [
        [{"index": 99, "error": "x"}],
        [{"index": -1, "error": "x"}],
        [],
    ],
)
def test_rejections_on_triggers_that_were_not_sent_are_passed_over(rejected):
    """No server can make the counts wrong."""
    bench = Bench([Answer(207, json.dumps({"rejected": rejected}).encode())])
    bench.deliver(3)
    assert (bench.counters.delivered, bench.counters.rejected) == (3, 0)


def test_a_trigger_rejected_twice_counts_once():
    """An index that is named twice rejects one trigger."""
    bench = Bench([Answer(207, b'{"rejected": [{"index": 1, "error": "a"}, {"index": 1, "error": "b"}]}')])
    bench.deliver(3)
    assert (bench.counters.delivered, bench.counters.rejected) == (2, 1)


def test_a_207_that_cannot_be_read_is_asked_for_again_in_halves():
    """Rejections cut off at 64 KiB are not guessed: the halves get readable ones."""

    def reply(body: bytes) -> Answer:
        if len(numbers(body)) > 2:
            return Answer(207, b'{"rejected": [{"index": 0, "err')
        return Answer(207, b'{"rejected": [{"index": 0, "error": "bad"}]}')

    bench = Bench(reply)
    bench.deliver(4)
    assert (bench.counters.delivered, bench.counters.rejected) == (2, 2)


def test_what_is_in_flight_when_time_is_over_stays_in_flight():
    """Triggers that are not settled when the client closes are still there to be counted."""
    bench = Bench(lambda body: Answer(503), max_waits=2)
    bench.deliver(5)
    assert (bench.buffer.in_flight, bench.counters.delivered, bench.counters.rejected) == (5, 0, 0)


def test_an_unlisted_status_counts_as_its_class():
    """An unknown 4xx is a refusal and an unknown 5xx a fault, as RFC 9110 says."""
    bench = Bench([Answer(418)])
    bench.deliver(1)
    assert bench.counters.rejected == 1
    bench = Bench([Answer(599), OK])
    bench.deliver(1)
    assert (bench.counters.delivered, len(bench.waits)) == (1, 1)
