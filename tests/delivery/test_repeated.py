"""`stats().repeated`: how many of the delivered triggers the server had already."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from brockman.client import FocusLabClient
from brockman.delivery.policy import count_repeated, judge
from brockman.transport import Answer
from tests.cli.conftest import serving
from tests.collector.running import Running
from tests.support.client import KEY
from tests.support.server import RecordingServer, Reply


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(tmp_path_factory.mktemp("collector")) as running:
        yield running


def record_all(client: FocusLabClient, ids: list[str]) -> None:
    for trigger_id in ids:
        client.record_trigger(7, "viewed", "page", trigger_id=trigger_id)


@pytest.mark.parametrize("size", [1, 100], ids=["one by one", "in batches"])
@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
def test_triggers_that_are_sent_again_are_counted(
    size: int, spooled: bool, collector: Running, tmp_path: Path
) -> None:
    """By their ids, in this process and after it, single or in batches."""
    ids = [str(uuid.uuid4()) for _ in range(30)]
    options = {"spool_dir": str(tmp_path / "spool")} if spooled else {}
    for already in (0, 30, 60):
        with FocusLabClient(KEY, collector.endpoint, max_batch_size=size, **options) as client:
            record_all(client, ids + ids)
            client.flush()
            stats = client.stats()
        assert (stats.delivered, stats.repeated) == (60, 30 if already == 0 else 60)


def test_of_a_mixed_answer_too(make_client: Callable[..., FocusLabClient], server: RecordingServer) -> None:
    """Once for the request, though its triggers are settled in parts."""
    answer = {"accepted": 3, "repeated": 2, "rejected": [{"index": 1, "error": "no"}]}
    server.respond = lambda request: Reply(207, json.dumps(answer).encode())
    client = make_client(flush_interval=60)
    record_all(client, [str(uuid.uuid4()) for _ in range(4)])
    client.flush()
    assert (client.stats().delivered, client.stats().rejected, client.stats().repeated) == (3, 1, 2)


def test_a_mixed_answer_repeats_no_more_than_it_accepts() -> None:
    """`repeated` is a part of `delivered`, whatever a server says."""
    for repeated, counted in ((0, 0), (1, 1), (2, None), (3, None)):
        body = json.dumps({"repeated": repeated, "rejected": [{"index": 0}, {"index": 2}]}).encode()
        assert judge(Answer(207, body), 3, 0.0).repeated == counted


def test_a_server_that_does_not_tell_is_not_taken_for_one_that_had_none(
    make_client: Callable[..., FocusLabClient],
) -> None:
    """`None`, not 0."""
    client = make_client()
    record_all(client, [str(uuid.uuid4())])
    client.flush()
    assert (client.stats().delivered, client.stats().repeated) == (1, None)


@pytest.mark.parametrize(
    "answer",
    [
        *("", "ok", "[]", "7", '"repeated"', "{}", "[" * 100_000),
        *('{"repeated": "2"}', '{"repeated": null}', '{"repeated": [1]}'),
        *('{"repeated": -1}', '{"repeated": 4}', '{"repeated": 1.5}', '{"repeated": 1e400}'),
    ],
    ids=lambda answer: answer[:20],
)
def test_an_answer_that_does_not_tell_is_no_count(answer: str) -> None:
    """No body of a server makes the counts wrong."""
    assert count_repeated(answer, 3) is None
