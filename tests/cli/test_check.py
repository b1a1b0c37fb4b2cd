"""`brockman check` names the cause why nothing arrives, what to do, and nothing secret."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from brockman.cli import main
from tests.cli.conftest import command
from tests.collector.running import Running
from tests.spool.disks import fill, mounted
from tests.support.client import KEY
from tests.support.programs import ROOT, Ended, environment, free_port, ran, started
from tests.support.server import RecordingServer, Reply, Request, silence

Check = Callable[..., Ended]
PORTAL = b"<!doctype html><title>Log in to the network</title>"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run `brockman check` in this process, with a key and further variables."""

    def run(endpoint: str, *arguments: str, **variables: str) -> Ended:
        for name, value in {"FL_API_KEY": KEY, "FL_ENDPOINT": endpoint, **variables}.items():
            monkeypatch.setenv(name, value)
        status = main(["check", *arguments])
        captured = capsys.readouterr()
        assert KEY not in captured.out + captured.err
        return Ended(status, captured.out, captured.err)

    return run


def last_line(ended: Ended) -> str:
    return ended.out.splitlines()[-1]


def status_of(ended: Ended, step: str) -> list[str]:
    """Return how each line of a step came out."""
    lines = (line.split(None, 2) for line in ended.out.splitlines())
    return [words[0] for words in lines if len(words) == 3 and words[1] == step]


# The healthy way.


def test_with_a_collector_everything_is_ok(check: Check, collector: Running) -> None:
    """Three triggers are stored, each with an id of its own, and the last line says that they arrive."""
    ended = check(collector.endpoint)
    assert (ended.status, last_line(ended)) == (0, "triggers arrive"), ended.out
    assert {line.split()[0] for line in ended.out.splitlines()[:-2]} == {"ok"}
    stored = collector.stored()
    assert [(one["actor_id"], one["action"], one["object"]) for one in stored] == [
        ("brockman-check", "checked", "connection")
    ] * 3
    assert len(set(collector.ids())) == 3

    wrong = check(collector.endpoint, FL_API_KEY="another")
    assert wrong.status == 1
    assert "the key is refused" in last_line(wrong)
    assert "check api_key (FL_API_KEY)" in last_line(wrong)

    unsent = check(collector.endpoint, "--no-send")
    assert unsent.status == 0
    assert "whether triggers arrive is unknown" in last_line(unsent)
    assert status_of(unsent, "key") == ["ok"]
    assert status_of(unsent, "single") == status_of(unsent, "array") == ["skipped"]
    assert len(collector.stored()) == 3


def test_json_is_one_object_with_every_step(check: Check, server: RecordingServer) -> None:
    """With the conclusion, the cause, durations, and where each setting is from."""
    server.respond = lambda request: Reply(headers={"Date": formatdate(usegmt=True)})
    seen = json.loads(check("http://127.0.0.1:1/", "--json", "--endpoint", server.endpoint, FL_GZIP="1").out)
    assert (seen["ok"], seen["cause"], seen["exit_status"]) == (True, None, 0)
    steps = [step["step"] for step in seen["steps"]]
    assert list(dict.fromkeys(steps)) == [
        *("settings", "proxy", "dns", "tcp", "tls", "endpoint", "key", "single", "array", "clock", "spool")
    ]
    sources = {step["setting"]: step["source"] for step in seen["steps"] if step["step"] == "settings"}
    assert sources == {"endpoint": "--endpoint", "api_key": "the environment", "gzip": "the environment"}
    assert all(step["seconds"] >= 0 for step in seen["steps"])
    assert seen["steps"][steps.index("single")]["milliseconds"] > 0

    server.respond = lambda request: Reply(404)
    failed = json.loads(check(server.endpoint, "--json").out)
    assert (failed["ok"], failed["exit_status"], failed["cause"]["step"]) == (False, 1, "endpoint")
    assert "check endpoint" in failed["cause"]["advice"]


# What the endpoint answers.


def answers(*arguments: Any, **more: Any) -> Callable[[Request], Reply]:
    return lambda request: Reply(*arguments, **more)


@pytest.mark.parametrize(
    ("respond", "step", "words"),
    [
        (answers(401), "key", "answers 401: check api_key"),
        (answers(403, "wrong \u202eAPI key".encode()), "key", r"answers 403 (wrong \u202eAPI key)"),
        (answers(403, f"not {KEY}".encode()), "key", "answers 403 (not (api key))"),
        (answers(403, PORTAL), "endpoint", "as a firewall or a log-in in between does"),
        (answers(404, b"nothing here"), "endpoint", "answers 404 (nothing here): check endpoint (FL_ENDPOINT)"),
        (answers(200, PORTAL), "endpoint", "answers 200 (Log in to the network): that is no answer of the API"),
        (answers(422, PORTAL), "endpoint", "that is no answer of the API, but of a proxy or another server"),
        (
            answers(308, headers={"Location": "https://new.example/api/v1/trigger/"}),
            "endpoint",
            "write https://new.example/api/v1/",
        ),
        (answers(503, b"down for an hour"), "endpoint", "answers 503 (down for an hour), it is unavailable"),
        (answers(500), "endpoint", "answers 500, the server fails"),
        (answers(400, b"no such action"), "single", "a trigger is refused"),
    ],
)
def test_the_answer_of_the_endpoint_is_explained(
    check: Check, server: RecordingServer, respond: Callable[[Request], Reply], step: str, words: str
) -> None:
    """One request is enough, and the last line has the cause and the advice."""
    server.respond = respond
    ended = check(server.endpoint)
    assert ended.status == 1
    assert last_line(ended).startswith("nothing arrives because ")
    assert words in last_line(ended)
    assert status_of(ended, step) == ["problem"]
    assert len(server.requests) == 1


def test_an_endpoint_that_does_not_answer_is_named(check: Check, server: RecordingServer) -> None:
    """Within the timeout."""
    server.respond = lambda request: Reply(act=silence)
    ended = check(server.endpoint, "--timeout", "0.3")
    assert ended.status == 1
    assert "gives no answer (no answer in time): the connection works: look at the server" in last_line(ended)


def test_a_wrong_path_is_compared_with_that_of_the_api(check: Check, server: RecordingServer) -> None:
    """As after a slip in the URL."""
    server.respond = lambda request: Reply(201 if request.path == "/api/v1/trigger/" else 404)
    ended = check(server.endpoint.replace("/v1/", "/v2/"))
    assert ended.status == 1
    assert "its path is /api/v2/, and that of the API is /api/v1/" in last_line(ended)


def test_a_refused_array_is_a_warning(check: Check, server: RecordingServer) -> None:
    """Triggers arrive one by one."""
    server.respond = lambda request: Reply(400 if request.is_array else 201)
    ended = check(server.endpoint)
    assert (ended.status, last_line(ended)) == (0, "triggers arrive; see the warning above")
    assert (status_of(ended, "single"), status_of(ended, "array")) == (["ok"], ["warning"])
    assert "each trigger is a request of its own" in ended.out


@pytest.mark.parametrize(
    ("behind", "status", "words"),
    [(3600, "problem", "1 h ahead of"), (-7200, "problem", "2 h behind"), (300, "warning", "5 min ahead of")],
)
def test_a_clock_that_is_off_is_noticed(
    check: Check, server: RecordingServer, behind: float, status: str, words: str
) -> None:
    """Triggers arrive, with wrong times."""
    date = formatdate(time.time() - behind, usegmt=True)
    server.respond = lambda request: Reply(headers={"Date": date})
    ended = check(server.endpoint)
    assert ended.status == (1 if status == "problem" else 0)
    assert status_of(ended, "clock") == [status]
    assert last_line(ended).startswith("triggers arrive")
    assert f"this machine's clock is {words} the server's" in ended.out


def test_without_a_trigger_a_refused_key_is_no_proof(check: Check, server: RecordingServer) -> None:
    """It may be for writing only; and an API that takes only POST is not wrong."""
    server.respond = lambda request: Reply(403)
    ended = check(server.endpoint, "--no-send")
    assert ended.status == 1
    assert "if it is for writing only, check without --no-send" in last_line(ended)
    server.respond = lambda request: Reply(405)
    assert check(server.endpoint, "--no-send").status == 0
    assert {request.method for request in server.requests} == {"GET"}


# No connection.


def test_a_closed_port_is_named(check: Check) -> None:
    port = free_port()
    ended = check(f"http://127.0.0.1:{port}/api/v1/")
    assert ended.status == 1
    assert f"port {port} of 127.0.0.1 cannot be connected to (127.0.0.1 refuses): start the server" in last_line(
        ended
    )


def test_a_host_that_does_not_exist_is_named(check: Check) -> None:
    """Or that no DNS server answers."""
    ended = check("https://focuslab.invalid/api/v1/")
    assert ended.status == 1
    assert status_of(ended, "dns") == ["problem"]
    assert re.search(r"(there is no host|no DNS server answers about) focuslab\.invalid", last_line(ended))
    assert "check endpoint (FL_ENDPOINT)" in ended.out or "FL_ENDPOINT" in last_line(ended)


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port whose packets are dropped: its queue of connections is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for one in waiting:
            one.close()


def test_packets_that_are_dropped_cost_no_more_than_the_timeout(check: Check, black_hole: int) -> None:
    """Such as by a firewall."""
    ended = check(f"http://127.0.0.1:{black_hole}/", "--timeout", "0.3", "--json")
    seen = json.loads(ended.out)
    assert (ended.status, seen["cause"]["step"]) == (1, "tcp")
    assert "does not answer within" in seen["cause"]["seen"]
    assert "a firewall drops the packets" in seen["cause"]["advice"]
    assert seen["steps"][-2]["seconds"] < 0.3 + 5


def test_ctrl_c_ends_it_with_a_sentence(server: RecordingServer) -> None:
    """While the endpoint does not answer."""
    server.respond = lambda request: Reply(act=silence)
    variables = environment(FL_API_KEY=KEY, FL_ENDPOINT=server.endpoint)
    with started(command("check"), env=variables) as process:
        server.wait_until(lambda server: len(server.requests) == 1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, err) == (130, "\nbrockman: interrupted\n")
    assert out.splitlines()[-1].startswith("ok       tls")  # each line comes when its step is done


# Settings.


def test_settings_are_shown_with_their_source_and_what_has_no_effect(
    check: Check, server: RecordingServer
) -> None:
    """Misspelt, empty, and idle ones."""
    variables = {"FL_ENDPIONT": "x", "FL_GZIP": "", "FL_SPOOL_FSYNC": "always", "FL_ON_DROP": "shop.log_drop"}
    ended = check(server.endpoint, **variables, FL_API_KEY=f"'{KEY[:9]}'")
    assert ended.status == 0
    for words in (
        f"endpoint {server.endpoint} (FL_ENDPOINT in the environment)",
        "api_key is set (FL_API_KEY in the environment)",
        "spool_fsync 'always' (FL_SPOOL_FSYNC in the environment)",
        "FL_SPOOL_FSYNC in the environment has no effect: it needs spool_dir",
        "the environment has 'FL_ENDPIONT', which is no setting: did you mean FL_ENDPOINT?",
        "FL_GZIP in the environment is empty: it counts as not set",
        "FL_ON_DROP in the environment has no effect: pass on_drop=... to the client, a function",
        "FL_API_KEY in the environment is in quotation marks, which are sent with it: take them away",
    ):
        assert words in ended.out
    assert KEY[:9] not in ended.out
    assert last_line(ended) == "triggers arrive; see the 5 warnings above"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FL_API_KEY": ""}, "api_key is missing"),
        ({"FL_ENDPOINT": "ftp://x"}, "endpoint is 'ftp://x' (FL_ENDPOINT in the environment): it should be a URL"),
        ({"FL_FLUSH_INTERVAL": "soon"}, "flush_interval is 'soon' (FL_FLUSH_INTERVAL in the environment)"),
        (
            {"FL_ENDPOINT": "http://shop.example/"},
            "the API key would travel in clear to shop.example: use https://",
        ),
        ({"FL_ENABLED": "no"}, "enabled is off, so nothing is sent: set FL_ENABLED to 1, or leave it out"),
    ],
)
def test_wrong_settings_have_the_exit_status_2(
    check: Check, server: RecordingServer, variables: dict[str, str], words: str
) -> None:
    """Nothing is connected to."""
    ended = check(**{"endpoint": server.endpoint, **variables})
    assert ended.status == 2
    assert words in last_line(ended)
    assert server.connections == 0


# The spool.


def test_the_spool_shows_what_processes_have_left(check: Check, server: RecordingServer, tmp_path: Path) -> None:
    """Without touching it; and says why one cannot be written."""
    spool = tmp_path / "spool"
    assert (
        "does not exist yet; the first trigger creates it" in check(server.endpoint, FL_SPOOL_DIR=str(spool)).out
    )
    assert not spool.exists()
    script = (
        "import os; from brockman.client import FocusLabClient; client = FocusLabClient(endpoint='http://127.0.0.1:1/')\n"
        "for n in range(3): assert client.record_trigger(n, 'viewed', 'page')\n"
        "os._exit(0)"
    )
    variables = environment(FL_API_KEY=KEY, FL_SPOOL_DIR=str(spool))
    assert ran([*command()[:1], "-c", script], env=variables).status == 0
    ended = check(server.endpoint)
    assert ended.status == 0
    assert "has 3 triggers of 1 process in" in ended.out
    assert (
        "3 triggers of processes that have ended wait for the next one: start it, or run brockman spool"
        in ended.out
    )

    blocked = check(server.endpoint, FL_SPOOL_DIR=str(ROOT / "README.rst" / "spool"))
    assert blocked.status == 1
    assert status_of(blocked, "spool") == ["problem"]
    assert last_line(blocked).startswith("triggers arrive, but triggers cannot be written to")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"FL_ENDPOINT": '"https://focuslab.invalid/"'}, "endpoint is in quotation marks"),
        (
            {"FL_ENDPOINT": "\ufeffhttps://focuslab.invalid/"},
            "endpoint begins with an invisible character (U+FEFF)",
        ),
        ({"FL_ENDPOINT": " https://focuslab.invalid/"}, "endpoint has white space around it"),
        ({"FL_ENABLED": "'1'"}, "enabled is in quotation marks"),
        ({"FL_API_KEY": f"\u201c{KEY}\u201d"}, "api_key is in quotation marks"),
        (
            {"FL_API_KEY": "", "FL_APIKEY": KEY},
            "FL_API_KEY is not set, and the environment has 'FL_APIKEY': rename",
        ),
    ],
)
def test_what_a_file_of_variables_adds_to_a_value_is_named(
    check: Check, variables: dict[str, str], words: str
) -> None:
    """Quotation marks, blanks, a byte order mark, a misspelt name."""
    ended = check(variables.pop("FL_ENDPOINT", "https://focuslab.invalid/"), **variables)
    assert ended.status == 2
    assert last_line(ended).startswith(f"nothing arrives because {words}")


def test_a_misspelt_endpoint_is_recalled_where_the_default_fails(check: Check) -> None:
    """The endpoint that is used is not the one that was meant: the last line points to the warning."""
    ended = check("http://127.0.0.1:1/", FL_ENDPIONT="https://focuslab.example/")
    assert "in a container that host is the container itself" in last_line(ended)
    assert last_line(ended).endswith("; see also the warning about settings above")


def test_a_full_disk_is_named(check: Check, server: RecordingServer, tmp_path: Path) -> None:
    """Also where the folder of the spool is not there yet."""
    with mounted("tmpfs", tmp_path / "disk", "size=64k,mode=700") as disk:
        fill(disk / "pad")
        ended = check(server.endpoint, FL_SPOOL_DIR=str(disk / "spool"))
    assert (ended.status, status_of(ended, "spool")) == (1, ["problem"])
    assert "triggers arrive, but there is no room on the disk of" in last_line(ended)


def test_what_a_project_prints_is_not_among_the_json(server: RecordingServer, tmp_path: Path) -> None:
    """It goes to the error output. A key in the text of an error that the project raises is not shown."""
    pytest.importorskip("django")
    (tmp_path / "chatty.py").write_text("print('hello')\nSECRET_KEY = 'x'\n")
    (tmp_path / "failing.py").write_text(f"raise ValueError('{KEY}')\n")
    for module, place in (("chatty", ""), ("failing", "ValueError in ")):
        variables = environment(FL_API_KEY=KEY, FL_ENDPOINT=server.endpoint, DJANGO_SETTINGS_MODULE=module)
        ended = ran(command("check", "--json"), env=variables, cwd=tmp_path)
        assert json.loads(ended.out)["ok"], ended
        assert place in ended.out
        assert KEY not in ended.out + ended.err


def test_who_is_to_blame_is_named(check: Check, server: RecordingServer) -> None:
    """A 413 is not about the action of the trigger, a 502 not about the server that says it."""
    server.respond = lambda request: Reply(413)
    assert "a small trigger is too large" in last_line(check(server.endpoint))
    server.respond = lambda request: Reply(502)
    assert "a gateway answers: look at the server behind it" in last_line(check(server.endpoint))


def test_a_timeout_that_is_too_short_is_told_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    """0 is not within the limits, and is not named as one of them."""
    with pytest.raises(SystemExit):
        main(["check", "--timeout", "0"])
    assert "should be a number from 0.1 to 3600" in capsys.readouterr().err
