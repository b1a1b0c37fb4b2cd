"""Sub-interpreters: a client in one starts no thread, and does not disturb that of the main interpreter."""

from __future__ import annotations

import sys

import pytest

from tests.support.programs import assert_exact, running
from tests.support.scripts import RECORDING

WARNING = "no thread is started in a sub-interpreter"

INTERPRETERS = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    def create(kind):
        return interpreters.create(kind)
    def run(interpreter, code):
        failure = interpreters.exec(interpreter, code)
        assert failure is None, failure.formatted
else:
    import _xxsubinterpreters as interpreters
    def create(kind):
        return interpreters.create(isolated=kind == "isolated")
    run = interpreters.run_string
"""
INSIDE = f"""
{RECORDING}
import sys
client = FocusLabClient(max_batch_size=10, flush_interval=600)
for n in range(25):
    record(client, f"inside {{n}}")
print("inside:", client.stats().delivered, client.stats().queued, "orjson" in sys.modules, flush=True)
"""
BESIDE = f"""
{RECORDING}
{INTERPRETERS}
client = FocusLabClient()
def use():
    record(client, f"beside {{len(used)}}")
    used.append(bool(client.flush(30)))
used = []
use()
made = [create(sys.argv[1]) for _ in range(2)]
for interpreter in made:
    run(interpreter, sys.argv[2].replace("inside {{n}}", f"inside {{int(interpreter)}} {{{{n}}}}"))
    use()
for interpreter in made:
    interpreters.destroy(interpreter)
    use()
print("beside:", used, flush=True)
record(client, "last")
"""


@pytest.mark.parametrize("kind", ["legacy", "isolated"])
def test_a_client_in_a_sub_interpreter_delivers_without_a_thread(server, tmp_path, kind):
    """A full batch leaves at once, the rest when its interpreter is destroyed: exact.

    One warning for each interpreter; the main one's client goes on beside them; the process ends well. orjson is
    not loaded: it refuses, or, not made for several interpreters, destroys what belongs to another one.
    """
    with running([sys.executable, "-c", BESIDE, kind, INSIDE], tmp_path, server) as program:
        assert program.wait() == 0, program.text()
        text = program.text()
        assert_exact(program, server, 2 * 25 + 6)
    assert text.count("inside: 20 5 False\n") == 2
    assert f"beside: {[True] * 5}\n" in text
    assert text.count(WARNING) == 2
    assert "Traceback" not in text


HANDLED = f"""
{RECORDING}
import logging, logging.config
client = FocusLabClient(flush_interval=600)
class Tracking(logging.Handler):
    def emit(self, entry):
        record(client, "echo")
    def flush(self):
        record(client, "flushed")
        client.flush(30)
log = logging.getLogger("brockman")
log.addHandler(Tracking())
log.setLevel(logging.DEBUG)
record(client, "inside")
assert client.flush(30)
logging.config.dictConfig({{"version": 1}})
print("dropped:", client.stats().dropped, flush=True)
"""


def test_the_caller_writes_the_log_where_there_is_no_thread(server, tmp_path):
    """A handler may record and flush there too, and what it records for a line of brockman is dropped."""
    script = f"{INTERPRETERS}\nmade = create('legacy')\nrun(made, sys.argv[1])\ninterpreters.destroy(made)"
    with running([sys.executable, "-c", script, HANDLED], tmp_path, server) as program:
        assert program.wait(20) == 0, program.text()
        assert_exact(program, server, 2)
    assert "dropped: {'own_log': 2}\n" in program.text()


@pytest.mark.skipif(
    sys.version_info < (3, 12), reason="before Python 3.12 nobody destroys an interpreter that is left"
)
@pytest.mark.parametrize("kind", ["legacy", "isolated"])
def test_a_sub_interpreter_that_is_not_destroyed_delivers_at_exit(server, tmp_path, kind):
    """Triggers that wait in it are delivered when the process exits, and the exit status stays.

    CPython 3.12 aborts, with or without brockman, if only an isolated interpreter has imported hashlib or ssl.
    """
    script = (
        f"import hashlib, ssl\n{INTERPRETERS}\nleft = create(sys.argv[1])\nrun(left, sys.argv[2])\nsys.exit(7)\n"
    )
    with running([sys.executable, "-c", script, kind, INSIDE], tmp_path, server) as program:
        assert program.wait() == 7, program.text()
        assert_exact(program, server, 25)
        assert "inside: 20 5 False\n" in program.text()
