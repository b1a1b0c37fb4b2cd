"""Many clients in one process."""

from __future__ import annotations

from tests.support.endpoint import Endpoint
from tests.support.programs import assert_exact
from tests.support.scripts import run


def test_10_000_clients(server, tmp_path):
    """Used once and dropped, every hundredth closed: one thread and few descriptors more, none at the end."""
    script = """
def used():
    return threading.active_count(), len(os.listdir("/proc/self/fd"))

make().close()  # imports
before, most = used(), (0, 0)
for n in range(10_000):
    client = make(max_queue_size=100_000)
    record(client, n)
    if n % 100 == 99:
        client.close(30)
        most = tuple(map(max, most, used()))
del client
most = tuple(map(max, most, used()))
assert most[0] <= before[0] + 1 and most[1] <= before[1] + 20, (before, most)
wait_for(lambda: used()[0] == before[0])
print("the thread has ended", flush=True)
wait_for(lambda: used()[1] == before[1])
"""
    program = run(tmp_path, server, script)
    assert "the thread has ended" in program.text()
    assert_exact(program, server, at_least=10_000)


def test_clients_with_and_without_the_same_settings(server, tmp_path):
    """Equal settings share a thread; closing one client drops no trigger of the others."""
    script = """
before = threading.active_count()
one, same, other = make(), make(), make(flush_interval=0.03)
for number, client in enumerate((one, same, other)):
    record(client, number)
wait_for(lambda: threading.active_count() == before + 2)
assert [client.stats().recorded for client in (one, same, other)] == [2, 2, 1]
assert not one.close(0.2)
assert not one.record_trigger(1, "comes", "too late")
record(same, "after")
wait_for(lambda: same.stats().retries > 2)
assert same.stats().queued + same.stats().in_flight == 3
open("recover", "w").close()
assert same.flush(30) and other.flush(30)
assert {**same.stats().dropped, "closed": 0} == dict.fromkeys(same.stats().dropped, 0), same.stats()
"""
    endpoint = Endpoint(server, lambda request: 201 if (tmp_path / "recover").exists() else 503)
    assert_exact(run(tmp_path, server, script), endpoint, at_least=4)
