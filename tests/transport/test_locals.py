"""Local variables of every frame, as error trackers report them, when a time limit strikes within a send."""

from __future__ import annotations

import base64
import itertools
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

import pytest
import requests
from requests.adapters import HTTPAdapter

from brockman.client import FocusLabClient
from brockman.exceptions import ConnectionFailed
from brockman.options.secret import Secret
from brockman.transport.http import HttpTransport
from tests.support.client import KEY
from tests.support.programs import free_port
from tests.support.server import Reply, silence
from tests.support.tls import PASSWORD

# A strike between the making of a socket and its first use in urllib3 leaves that to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SECRETS = (KEY, PASSWORD, base64.b64encode(f"user:{PASSWORD}".encode()).decode())
# A strike in these would leave a lock of urllib3's own pools held, which those of a session are.
UNTOUCHED = (queue.__file__, threading.__file__)


class TimeLimit(Exception):
    """A time limit that a signal handler raises."""


class Handled(Exception):
    """An exception that an application handles."""


def strike(call: Callable[[], object], number: int) -> TimeLimit | None:
    """Call, and raise `TimeLimit` at a line of what is called, counted from 0; return it if it came that far."""
    lines = itertools.count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename in UNTOUCHED:
            return None
        if event == "line" and next(lines) == number:
            raise TimeLimit
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except TimeLimit as limit:
        return limit
    except Exception:
        assert next(lines) <= number, "the time limit was swallowed"
    finally:
        sys.settrace(before)
    return None


def reported(error: BaseException) -> str:
    """Return a report with the locals of all frames but those of this file."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    texts = []
    while report is not None:
        texts += [repr((frame, frame.locals)) for frame in report.stack if frame.filename != __file__]
        report = report.__cause__ or report.__context__
    return "".join(texts)


def strikes(call: Callable[[], object], step: int) -> Iterator[TimeLimit]:
    """Yield what a strike at every line raises, or at one line in `step`."""
    misses = 0  # in a row: the strike before may have left a connection that fails early
    for number in itertools.count(0, step):
        limit = strike(call, number)
        misses = misses + 1 if limit is None else 0
        if misses == 5:
            return
        if limit is not None:
            yield limit


class LoudAdapter(HTTPAdapter):
    """An adapter of an application, with the request's headers in its own locals."""

    def send(self, request, *args, **kwargs):
        headers = dict(request.headers)
        response = super().send(request, *args, **kwargs)
        assert headers
        return response


WAYS = ["kept alive", "new connection", "proxy", "refused", "session", "own adapter"]


@pytest.fixture(params=WAYS)
def send(request, server, monkeypatch):
    """A function that sends once, in one of these ways."""
    session, endpoint = None, server.endpoint
    if request.param in ("session", "own adapter"):
        session = requests.Session()
        session.mount("http://", LoudAdapter() if request.param == "own adapter" else HTTPAdapter())
    elif request.param == "proxy":
        monkeypatch.setenv("http_proxy", f"http://user:{PASSWORD}@127.0.0.1:{server.port}")
        endpoint = "http://focuslab.invalid/"
    elif request.param == "refused":
        endpoint = f"http://127.0.0.1:{free_port()}/"
    transport = HttpTransport(endpoint, Secret(KEY), connect_timeout=20, read_timeout=20, session=session)

    def send() -> None:
        if request.param in ("new connection", "proxy"):
            transport.close()
        transport.send(b"{}")

    yield send
    transport.close()


def test_no_report_of_a_strike_in_a_send_shows_the_key(send):
    """Wherever a time limit strikes, in requests, urllib3 or http.client: no local of any frame holds a secret."""
    reports = [reported(limit) for limit in strikes(send, 7)]
    assert len(reports) > 50
    assert any("connectionpool.py" in report for report in reports)  # files and lines are still reported
    assert not [report for report in reports if any(secret in report for secret in SECRETS)]


def test_no_report_of_a_strike_in_the_making_of_a_client_shows_the_key(monkeypatch):
    """The key is put into the request that all others are copies of."""
    monkeypatch.setenv("http_proxy", f"http://user:{PASSWORD}@127.0.0.1:9")
    secret = Secret(KEY)

    def make() -> None:
        HttpTransport("http://focuslab.invalid/", secret, connect_timeout=1, read_timeout=1).close()

    reports = [reported(limit) for limit in strikes(make, 7)]
    assert len(reports) > 50
    assert not [report for report in reports if any(secret in report for secret in SECRETS)]


@pytest.mark.parametrize(
    "proxy", ["http://user:{}/@127.0.0.1:9", "http://{}#@127.0.0.1:9", "http://u:{}@127.0.0.1:x"]
)
def test_no_report_of_a_wrong_proxy_shows_its_password(monkeypatch, proxy):
    """Of one that cannot be parsed, or of which a part is taken for the host."""
    monkeypatch.setenv("http_proxy", proxy.format(PASSWORD))
    transport = HttpTransport("http://focuslab.invalid/", Secret(KEY), connect_timeout=5, read_timeout=5)
    with pytest.raises(ConnectionFailed) as caught:
        transport.send(b"{}")
    transport.close()
    lines = reported(caught.value).splitlines()
    assert not [line for line in lines if PASSWORD.lower() in line.lower()]


def test_the_locals_of_what_the_caller_handles_are_kept(server):
    """An exception that was being handled when `send_trigger` was called is reported as it was."""

    def fail() -> None:
        mine = "a local of the application"
        raise Handled(mine)

    def send() -> None:
        try:
            fail()
        except Handled:
            transport.send(b"{}")

    transport = HttpTransport(server.endpoint, Secret(KEY), connect_timeout=20, read_timeout=20)
    handled = [limit.__context__ for limit in strikes(send, 37) if isinstance(limit.__context__, Handled)]
    transport.close()
    assert len(handled) > 10
    for error in handled:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        assert frame.f_locals == {"mine": "a local of the application"}


def test_a_soft_time_limit_in_send_trigger_shows_no_key(server):
    """Of a real signal, while the client waits for an answer; the limit itself reaches the caller."""

    def raise_limit(number, frame):
        raise TimeLimit

    server.respond = lambda request: Reply(act=silence)
    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, read_timeout=30)
    before = signal.signal(signal.SIGALRM, raise_limit)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(TimeLimit) as caught:
            client.send_trigger("1", "viewed", "page")
    finally:
        signal.signal(signal.SIGALRM, before)
        client.close(0)
    assert "http/client.py" in reported(caught.value)
    assert KEY not in reported(caught.value)
