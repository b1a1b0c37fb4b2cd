"""The flag that the kernel clears in a forked child."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import pytest

from brockman.process.fork import _PidFlag, make_fork_flag

FORKS = {"with the hooks of Python": os.fork, "without": lambda: ctypes.PyDLL(None).fork()}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, from other tests
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
@pytest.mark.parametrize("make", [make_fork_flag, _PidFlag], ids=["page", "pid"])
def test_a_child_finds_it_cleared_however_it_was_forked(make: Callable, fork: Callable[[], int]):
    """1 in the process that made it, until it is set to 0; 0 in a child, whatever the parent does."""
    flag = make()
    assert flag[0] == 1
    child = fork()
    if not child:
        os._exit(flag[0])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert flag[0] == 1
    flag[0] = 0
    assert flag[0] == 0
