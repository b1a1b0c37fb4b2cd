"""A trigger that is recorded on disk while another thread closes the client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from brockman.buffer.spool.buffer import SpoolBuffer
from brockman.client import FocusLabClient
from tests.spool.disks import away, files_in
from tests.support.client import record
from tests.support.endpoint import Endpoint
from tests.support.server import RecordingServer

Make = Callable[..., FocusLabClient]
SEGMENT_BYTES = {"short segments": 1, "long segments": 1 << 20}


class Recorders:
    """Threads that record until they are stopped, and note which triggers were accepted."""

    def __init__(self, client: FocusLabClient, count: int = 3) -> None:
        self._client = client
        self._stopped = threading.Event()
        self.accepted: list[int] = []
        self._refused = [0] * count  # of each thread
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def _run(self, thread: int) -> None:
        n = thread * 10**6
        while not self._stopped.is_set():
            n += 1
            if record(self._client, 1, start=n):
                self.accepted.append(n)
            else:
                self._refused[thread] += 1

    @property
    def refused(self) -> int:
        """How many triggers were refused."""
        return sum(self._refused)

    def stop(self) -> None:
        """End the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("size", SEGMENT_BYTES)
@pytest.mark.parametrize("is_away", [False, True], ids=["delivered", "left on disk"])
def test_true_stays_true_while_another_thread_opens_and_closes(
    size: str,
    is_away: bool,
    server: RecordingServer,
    make_client: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An accepted trigger is delivered, now or by the next process; only those refused count as `closed`."""
    monkeypatch.setattr(SpoolBuffer, "segment_bytes", SEGMENT_BYTES[size])
    endpoint = Endpoint(server)
    options = {"spool_dir": str(tmp_path / "spool"), "shutdown_timeout": 0.0}
    client = make_client(**options, transport=away() if is_away else None)
    recorders = Recorders(client)
    for _ in range(20):
        with client:
            pass
    recorders.stop()
    client.close(0)
    assert set(client.stats().dropped) <= {"closed"}
    assert client.stats().dropped.get("closed", 0) == recorders.refused
    with make_client(**options, flush_interval=0.06) as following:
        assert following.flush(30)
    assert set(recorders.accepted) <= set(endpoint.numbers())
    assert files_in(tmp_path / "spool") == []
