"""Delivery in the caller's thread, where no worker thread can be started."""

from __future__ import annotations

import _thread
import gc

from brockman.client import FocusLabClient
from tests.support.client import KEY, record, worker_threads
from tests.support.waiting import eventually


def test_triggers_of_a_dropped_client_leave_when_a_thread_can_be_started_again(server, monkeypatch):
    """No thread could be started while the client existed: its triggers do not wait for the end of the process."""

    def none(*arguments):
        raise RuntimeError("can't start new thread")

    client = FocusLabClient(api_key=KEY, endpoint=server.endpoint, flush_interval=0.05)
    with monkeypatch.context() as patch:
        patch.setattr(_thread, "start_new_thread", none)
        record(client, 1)
    del client
    gc.collect()
    server.wait_until(lambda s: len(s.triggers) == 1)
    assert eventually(lambda: worker_threads() == [])
