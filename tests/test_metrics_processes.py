"""The metrics of several processes that are scraped as one, in the directory of `prometheus_client`."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.programs import environment, ran_python

WRITING = """
import os, sys, threading
import brockman.metrics
from brockman import FocusLabClient
from brockman.metrics.prometheus import _publish
from brockman.transport.memory import MemoryTransport
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.multiprocess import MultiProcessCollector

brockman.metrics.register_prometheus()
brockman.metrics.register_prometheus()
mine = Counter("mine", "A counter of the application.")
client = FocusLabClient(transport=MemoryTransport(), flush_interval=0.001)
stop = threading.Event()

def write():
    while not stop.is_set():
        client.record_trigger(1, "viewed", "page")
        _publish()

thread = threading.Thread(target=write)
thread.start()
children = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        client.record_trigger(1, "viewed", "page")
        mine.inc()
        sys.exit()
    children.append(pid)
statuses = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
thread.join()
client.close(60)
_publish()
registry = CollectorRegistry()
MultiProcessCollector(registry)
value = registry.get_sample_value
labels = {"endpoint": client.endpoint}
print(statuses == [0] * 20, value("mine_total"))
print(value("brockman_triggers_delivered_total", labels) == client.stats().delivered + 20)
"""


def test_a_process_that_is_forked_while_metrics_are_written_can_write_its_own(tmp_path: Path) -> None:
    """No lock stays held in it; and its counts are added to those of its parent."""
    ended = ran_python(WRITING, env=environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)))
    assert (ended.status, ended.out) == (0, "True 20.0\nTrue\n"), ended.err


def test_a_directory_that_is_gone_is_logged_and_loses_no_trigger(tmp_path: Path) -> None:
    """The metrics are missing then; the client goes on."""
    code = """
import logging, os, shutil
import brockman.metrics
from brockman import FocusLabClient
from brockman.transport.memory import MemoryTransport
logging.basicConfig(format="%(message)s")
brockman.metrics.register_prometheus()
shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"])
client = FocusLabClient(transport=MemoryTransport())
client.record_trigger(1, "viewed", "page")
print(client.close(60).delivered)
"""
    folder = tmp_path / "metrics"
    folder.mkdir()
    ended = ran_python(code, env=environment(PROMETHEUS_MULTIPROC_DIR=str(folder)))
    assert (ended.status, ended.out) == (0, "1\n"), ended.err
    assert ended.err.count("brockman: cannot write metrics to PROMETHEUS_MULTIPROC_DIR") == 1


SIGNALLED = """
import os, signal, sys
import brockman.metrics
from brockman import FocusLabClient
from brockman.transport.memory import MemoryTransport
from prometheus_client import Counter

brockman.metrics.register_prometheus()
mine = Counter("mine", "A counter of the application.")
client = FocusLabClient(transport=MemoryTransport(), handle_sigterm=True)
client.record_trigger(1, "viewed", "page")

def strike(frame, event, argument):
    if frame.f_code.co_name == "write_value":  # prometheus_client holds its lock here
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGTERM)

sys.setprofile(strike)
mine.inc()
print("not reached")
"""


def test_a_signal_that_strikes_where_the_application_counts_ends_the_process(tmp_path: Path) -> None:
    """The exit hooks run in its handler then, and the lock that the application holds is not waited for."""
    ended = ran_python(SIGNALLED, env=environment(PROMETHEUS_MULTIPROC_DIR=str(tmp_path)), limit=30)
    assert (ended.status, ended.out, ended.err) == (-signal.SIGTERM, "", "")
