"""The wakeup on which the worker and its waiters sleep."""

from __future__ import annotations

import math
import threading

import pytest

from brockman.process.sync import Wakeup
from tests.support.programs import Ended, ran_python


def test_a_wait_ends_however_short_it_is():
    """20 000 waits of zero and nearly zero seconds, beside a busy thread, all end."""
    code = (
        "import sys, threading\n"
        "from brockman.process.sync import Wakeup\n"
        "sys.setswitchinterval(1e-6)\n"
        "stop = False\n"
        "def busy():\n"
        "    while not stop: pass\n"
        "thread = threading.Thread(target=busy); thread.start()\n"
        "for n in range(20_000):\n"
        "    assert not Wakeup().wait((0.0, 1e-9, 1e-7, -1.0)[n % 4])\n"
        "stop = True; thread.join()\n"
    )
    assert ran_python(code, limit=120) == Ended(0, "", "")


@pytest.mark.parametrize("seconds", [20.0, math.inf])
def test_set_wakes_the_waiter(seconds):
    """So does a set before the wait; several sets count as one."""
    wakeup = Wakeup()
    wakeup.set()
    wakeup.set()
    assert wakeup.wait(seconds)
    assert not wakeup.wait(0)
    thread = threading.Thread(target=wakeup.set)
    thread.start()
    assert wakeup.wait(seconds)
    thread.join()
