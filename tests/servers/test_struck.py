"""A Ctrl-C at each step of an end, one after the other: what is recorded afterwards is delivered."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from itertools import count
from types import FrameType
from typing import Any

import pytest

from brockman import client as client_module
from brockman.client import FocusLabClient
from brockman.delivery import pipeline
from brockman.process import exit, registry

_FILES = {module.__file__ for module in (client_module, registry, pipeline, exit)}


def _begins_block(frame: FrameType) -> bool:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip().startswith("with ")


def _is_struck(number: int, call: Callable[[], object]) -> bool:
    """Call something, with a KeyboardInterrupt before its line of that number; return whether it had so many."""
    seen = count()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        # Not where a block ends: a signal comes before or after its lock is given back, the tracer in between.
        if event == "line" and not _begins_block(frame) and next(seen) == number:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("spooled", [False, True], ids=["memory", "spool"])
@pytest.mark.parametrize("end", ["close", "exit"])
def test_ctrl_c_at_any_step_of_an_end_does_not_lose_what_comes_later(
    end: str, spooled: bool, server, make_client, tmp_path
) -> None:
    """A program that goes on, an interactive one say, or that still records while it ends, goes on delivering."""
    spool = str(tmp_path / "spool") if spooled else None
    for number in count():  # pragma: no branch
        client: FocusLabClient = make_client(spool_dir=spool)
        client.record_trigger("42", "came", "before")
        struck = _is_struck(number, client.close if end == "close" else exit.close_all)

        later = make_client(spool_dir=spool) if end == "close" else client
        assert later.record_trigger("42", "came", f"after {number}")
        assert later.flush(10)
        assert f"after {number}" in [trigger["object"] for trigger in server.triggers]

        client.close(10)
        later.close(10)
        if not struck:
            assert number > 20
            return
