"""The children of `multiprocessing`: they end by os._exit, without `atexit`, and still deliver."""

from __future__ import annotations

import sys

import pytest

from tests.support.programs import assert_exact, free_port, running
from tests.support.scripts import RECORDING

pytestmark = pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])

# The worker thread would send nothing within a minute: what arrives was sent at the end of a process.
SCRIPT = f"""
import faulthandler, multiprocessing, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
{RECORDING}
faulthandler.register(signal.SIGALRM, chain=True)
signal.alarm(240)
context = multiprocessing.get_context(sys.argv[1])
OPTIONS = dict(flush_interval=60, shutdown_timeout=30)

def run(*targets):
    processes = [context.Process(target=target, args=(n,)) for n, target in enumerate(targets)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]
"""

WORK_AT_IMPORT = """
client = FocusLabClient(**OPTIONS)

def work(n):
    record(client, f"child {n}")
"""
WORK_IN_THE_CHILD = """
def work(n):
    client = FocusLabClient(**OPTIONS)
    record(client, f"child {n}")
"""
RUNS = {
    "Process": "assert run(*[work] * 2) == [0] * 2",
    "Pool": """
    pool = context.Pool(2)
    pool.map(work, range(20), 1)
    pool.close()
    pool.join()""",
    "ProcessPoolExecutor": """
    with ProcessPoolExecutor(2, context) as pool:
        list(pool.map(work, range(20)))""",
}


def start(folder, server, method, script, **environment):
    """Run a script under a start method; its name is a file's, for the children to import it."""
    (folder / "script.py").write_text(SCRIPT + script)
    return running([sys.executable, "script.py", method], folder, server, **environment)


@pytest.mark.parametrize(
    ("kind", "work"),
    [
        pytest.param("Process", WORK_AT_IMPORT, id="Process-at-import"),
        pytest.param("Process", WORK_IN_THE_CHILD, id="Process-in-child"),
        pytest.param("Pool", WORK_IN_THE_CHILD, id="Pool-in-child"),
        pytest.param("ProcessPoolExecutor", WORK_AT_IMPORT, id="ProcessPoolExecutor-at-import"),
    ],
)
def test_the_last_statement_of_a_child_records(server, tmp_path, method, kind, work):
    """Its trigger arrives, once, whether the client was made at import or in the child; and the parent's own."""
    script = f"{work}\nif __name__ == '__main__':\n    {RUNS[kind]}\n    work('of nobody')\n"
    with start(tmp_path, server, method, script) as program:
        assert program.wait() == 0, program.text()
        assert_exact(program, server, at_least=3 if kind == "Process" else 21)


def test_a_pool_that_terminates_its_workers(server, tmp_path, method):
    """`with Pool()` ends the workers by SIGTERM: with handle_sigterm they deliver what they recorded first."""
    script = f"""
OPTIONS["handle_sigterm"] = True
{WORK_AT_IMPORT}
if __name__ == "__main__":
    with context.Pool(3) as pool:
        pool.map(work, range(30), 1)
"""
    with start(tmp_path, server, method, script) as program:
        assert program.wait() == 0, program.text()
        assert_exact(program, server, at_least=30)


def test_a_child_that_fails_or_exits(server, tmp_path, method):
    """A child that raises, and one that calls sys.exit, deliver too; their exit codes stay."""
    script = f"""
{WORK_AT_IMPORT}
def fail(n):
    work(n)
    raise ValueError("as it should")

def leave(n):
    work(n)
    sys.exit(3)

if __name__ == "__main__":
    assert run(fail, leave) == [1, 3]
"""
    with start(tmp_path, server, method, script) as program:
        assert program.wait() == 0, program.text()
        assert_exact(program, server, at_least=2)


def test_a_child_whose_endpoint_is_closed(server, tmp_path, method):
    """It ends soon after shutdown_timeout, and the log says what was lost."""
    script = f"""
OPTIONS["shutdown_timeout"] = 1.0
{WORK_AT_IMPORT}
def late(n):
    work(n)
    print("recorded", time.monotonic(), flush=True)

if __name__ == "__main__":
    assert run(late) == [0]
    print("ended", time.monotonic(), flush=True)
"""
    dead = f"http://127.0.0.1:{free_port()}/api/v1/"
    with start(tmp_path, server, method, script, FL_ENDPOINT=dead) as program:
        assert program.wait() == 0, program.text()
    times = dict(line.split() for line in program.text().splitlines() if line.startswith(("recorded", "ended")))
    assert float(times["ended"]) - float(times["recorded"]) < 1 + 3
    assert "closed with 1 trigger not delivered" in program.text()
