"""`brockman replay` with a real collector."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from brockman.cli import main
from brockman.client import FocusLabClient
from tests.cli.conftest import command, row, serving
from tests.collector.conftest import start  # noqa: F401
from tests.collector.running import Running, trigger
from tests.support.client import KEY
from tests.support.programs import Ended, environment, started
from tests.support.waiting import eventually

Replay = Callable[..., Ended]


@pytest.fixture
def collector(start: Callable[..., Running]) -> Running:  # noqa: F811
    """A collector in a thread: a process of its own for each test would take longer than the test."""
    return start()


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], collector: Running) -> Replay:
    """Run `brockman replay` in this process."""
    monkeypatch.setenv("FL_ENDPOINT", collector.endpoint)
    monkeypatch.setenv("FL_API_KEY", KEY)

    def run(*arguments: str) -> Ended:
        status = main(["replay", *arguments])
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


def bad(**more: Any) -> dict[str, Any]:
    """Return a trigger that is refused, and accepted without its variable `cart`."""
    return trigger(variables={"total": 1, "cart": {"nested": 1}, **more.pop("variables", {})}, **more)


def refused(collector: Running) -> list[dict[str, Any]]:
    return list(collector.get("refused/", order="oldest", limit="10000").json()["refused"])


def kept(collector: Running) -> list[Any]:
    return [one["trigger"] for one in refused(collector)]


def without_cart(sent: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        **sent,
        "variables": {**{name: value for name, value in sent["variables"].items() if name != "cart"}, **more},
    }


def test_a_refused_trigger_of_a_client_arrives_after_a_change(collector: Running, replay: Replay) -> None:
    """From the first refusal to the last row: it is shown with its reason, and arrives under its id and time."""
    sent = bad(action="paid")
    errors = list[Exception]()
    with FocusLabClient(
        endpoint=collector.endpoint, api_key=KEY, on_error=lambda error, _: errors.append(error)
    ) as client:
        client.record_trigger("7", "viewed", "page")
        client.record_encoded(json.dumps(sent).encode())
        client.flush()
        assert client.stats().rejected == 1
    ((entry,), (error,)) = refused(collector), errors
    assert entry["trigger"] == sent
    assert entry["reason"] in str(error)

    ended = replay("--set", "variables.cart=none", "--set", "variables.total=12")

    assert (ended.status, ended.err) == (0, "")
    assert [row(ended, label) for label in ("matched", "accepted", "repeated", "refused")] == ["1", "1", "0", "0"]
    assert collector.stored(action="paid") == [{**sent, "variables": {"total": 12, "cart": "none"}}]
    assert refused(collector) == []


def test_only_what_matches_is_sent(collector: Running, replay: Replay) -> None:
    sent = [bad(action="paid", variables={"n": number}) for number in range(3)] + [bad()]
    collector.post(sent)

    ended = replay("--where", "action=paid", "--where", "variables.n=1", "--unset", "variables.cart")

    assert ended.status == 0
    assert collector.stored() == [without_cart(sent[1])]
    assert kept(collector) == [sent[0], sent[2], sent[3]]
    assert row(replay("--where", "reason~=CART", "--where", "action=viewed"), "matched") == "1"
    assert replay("--where", "action=sold").status == 0


def test_what_is_refused_again_stays_with_its_new_reason(collector: Running, replay: Replay) -> None:
    """Once, also if it has no valid id."""
    sent = [bad(), bad(id="no uuid"), trigger(actor_id="")]
    collector.post(sent)

    for _ in range(2):
        ended = replay("--set", "variables.cart=[null]")
        assert ended.status == 1
        assert [row(ended, label) for label in ("matched", "accepted", "refused")] == ["3", "0", "3"]
        assert sorted(one["reason"].partition(":")[0] for one in refused(collector)) == [
            "actor_id",
            "variables['cart'][0]",
            "variables['cart'][0]",
        ]
    assert "actor_id" in ended.err
    assert "3  " in ended.out

    assert replay("--unset", "variables", "--unset", "id", "--set", "actor_id=8").status == 0
    assert refused(collector) == []
    assert len(collector.stored(actor_id="8")) == 3


def test_what_was_stored_meanwhile_is_counted_as_repeated(
    collector: Running, replay: Replay, tmp_path: Path
) -> None:
    """In the endpoint that `--to` names; then it leaves the list of the refused here."""
    sent = [bad() for _ in range(3)]
    collector.post(sent)
    (tmp_path / "other").mkdir()
    with serving(tmp_path / "other") as other:
        other.post(without_cart(sent[0]))

        ended = replay("--to", other.endpoint, "--unset", "variables.cart", "--json")

        assert ended.status == 0
        assert json.loads(ended.out) == {
            "matched": 3,
            "accepted": 3,
            "repeated": 1,
            "refused": 0,
            "no_trigger": 0,
            "not_delivered": 0,
        }
        assert other.stored() == [without_cart(one) for one in sent]
        assert refused(collector) == []
        assert collector.stored() == []

        collector.post(sent)
        assert replay("--to", other.endpoint).status == 1
        assert kept(collector) == kept(other) == sent


def test_a_trigger_without_time_and_id_gets_those_of_its_arrival(collector: Running, replay: Replay) -> None:
    """Stored once, however often it is replayed."""
    collector.post({"actor_id": "7", "action": "paid", "object": "cart", "variables": []})
    (entry,) = refused(collector)

    assert replay("--unset", "variables").status == 0

    assert collector.stored() == [
        {
            "actor_id": "7",
            "action": "paid",
            "object": "cart",
            "id": entry["trigger"]["id"],
            "recorded_at": entry["received_at"],
        }
    ]
    assert uuid.UUID(entry["trigger"]["id"])


def test_what_is_no_trigger_stays(collector: Running, replay: Replay) -> None:
    collector.post(b"no json")
    collector.post([7, bad()])

    ended = replay("--unset", "variables.cart")

    assert ended.status == 1
    assert (row(ended, "no trigger"), row(ended, "accepted")) == ("2", "1")
    assert len(refused(collector)) == 2
    assert replay("--where", "action=viewed").status == 0


def test_a_dry_run_sends_nothing_and_its_output_can_be_edited_and_imported(
    collector: Running, replay: Replay, run_import: Callable[..., Ended]
) -> None:
    """Under the same ids and times; what was imported is no longer among the refused."""
    sent = [bad(action="paid", object="é\u2028\0"), bad(captured_attributes={"plan": "pro"}), bad()]
    collector.post(sent)

    ended = replay("--dry-run", "--set", "variables.total=3")

    assert ended.status == 0
    lines = ended.out.split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [
        {**one, "variables": {**one["variables"], "total": 3}} for one in sent
    ]
    assert kept(collector) == sent
    edited = ended.out.replace('"cart":{"nested":1}', '"cart":"edited"')
    assert run_import(collector.endpoint, edited, "--format", "ndjson").status == 0
    assert collector.stored() == [{**one, "variables": {"total": 3, "cart": "edited"}} for one in sent]
    assert refused(collector) == []


def test_thousands_are_replayed_page_by_page(collector: Running, replay: Replay) -> None:
    sent = [bad(variables={"n": number}) for number in range(2300)]
    for first in range(0, 2300, 1000):
        collector.post(sent[first : first + 1000])

    ended = replay("--where", "since=2020-01-01", "--unset", "variables.cart")

    assert ended.status == 0
    assert row(ended, "accepted") == "2300"
    assert collector.stored() == [without_cart(one) for one in sent]
    assert refused(collector) == []


def test_an_interrupted_replay_is_resumed(collector: Running, replay: Replay, tmp_path: Path) -> None:
    """Ctrl-C and kill -9 lose nothing, and nothing arrives twice."""
    sent = [bad(variables={"n": number, "text": "x" * 500}) for number in range(2000)]
    for first in range(0, 2000, 1000):
        collector.post(sent[first : first + 1000])
    (tmp_path / "other").mkdir()

    with ExitStack() as stack:
        other = stack.enter_context(serving(tmp_path / "other", "--delay", "100ms"))
        for number in (signal.SIGINT, signal.SIGKILL):
            before = other.get().json()["total"]
            arguments = command("replay", "--to", other.endpoint, "--unset", "variables.cart")
            with started(arguments, env=environment(FL_ENDPOINT=collector.endpoint, FL_API_KEY=KEY)) as process:
                assert eventually(lambda: other.get(limit="1").json()["total"] > before)  # noqa: B023
                os.kill(process.pid, number)
                process.communicate()
            assert process.returncode in (130, -signal.SIGKILL, 0)  # 0: it had just finished

        assert replay("--to", other.endpoint, "--unset", "variables.cart").status == 0

        assert sorted(one["variables"]["n"] for one in other.stored()) == list(range(2000))
        assert refused(collector) == []


def test_what_the_api_shows_can_be_edited_and_imported(
    collector: Running, run_import: Callable[..., Ended]
) -> None:
    """An entry with its reason on each line, as the export has them."""
    sent = [bad(), bad(captured_identities={"email": "e"})]
    collector.post([*sent, 7])

    entries = "".join(json.dumps(entry) + "\n" for entry in refused(collector))
    ended = run_import(collector.endpoint, entries.replace('{"nested": 1}', '"edited"'), "--format", "ndjson")

    assert ended.status == 1
    assert "line 3: no trigger: 'trigger: a number; give an object'" in ended.err
    assert collector.stored() == [without_cart(one, cart="edited") for one in sent]
    assert [one["text"] for one in refused(collector)] == ["7"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--where", "verb=x"],
        ["--where", "action"],
        ["--set", "variables.total"],
        ["--set", "verb=x"],
        ["--set", "variables=12"],
        ["--unset", "variables."],
        ["--unset", "reason"],
    ],
)
def test_wrong_usage_is_named(replay: Replay, arguments: list[str]) -> None:
    ended = replay(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"brockman replay: {arguments[0]} is ")


def test_a_wrong_key_or_endpoint_is_named(collector: Running, replay: Replay) -> None:
    wrong = replay("--api-key", "other")
    elsewhere = replay("--endpoint", collector.endpoint.replace("v1", "v2"))
    nowhere = replay("--endpoint", "http://127.0.0.1:1/", "--timeout", "0")

    assert [ended.status for ended in (wrong, elsewhere, nowhere)] == [1, 1, 1]
    assert "403: " in wrong.err
    assert "404: " in elsewhere.err
    assert "Connection refused" in nowhere.err
    for ended in (wrong, elsewhere, nowhere):
        assert ended.err.count("\n") == 1


def test_a_value_that_is_no_object_is_not_changed(collector: Running, replay: Replay) -> None:
    collector.post(trigger(variables=[1]))

    ended = replay("--set", "variables.total=1")

    assert (ended.status, row(ended, "refused")) == (1, "1")
    assert "variables is no object; --unset variables removes it" in ended.err
    assert replay("--unset", "variables", "--set", "variables.total=1").status == 0
    assert collector.stored()[0]["variables"] == {"total": 1}
