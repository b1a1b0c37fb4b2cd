"""The flag that the kernel clears in a forked child."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import pytest

from brockman.process.fork import HERE, USUAL, _PidFlag, make_fork_flag

FORKS = {"with the hooks of Python": os.fork, "without": lambda: ctypes.PyDLL(None).fork()}


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, from other tests
@pytest.mark.parametrize("fork", FORKS.values(), ids=FORKS)
@pytest.mark.parametrize("make", [make_fork_flag, _PidFlag], ids=["page", "pid"])
def test_a_child_finds_it_cleared_however_it_was_forked(make: Callable, fork: Callable[[], int]):
    """Both items are 1 in the process that made it, until one is set to 0; 0 in every child."""
    flag = make()
    assert [flag[USUAL], flag[HERE]] == [1, 1]
    child = fork()
    if not child:
        os._exit(flag[USUAL] + flag[HERE])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [flag[USUAL], flag[HERE]] == [1, 1]
    flag[USUAL] = 0
    assert [flag[USUAL], flag[HERE]] == [0, 1]
