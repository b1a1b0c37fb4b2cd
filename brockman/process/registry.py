"""The life and the end of a process: which parts work in it, and one deadline for all of them when it ends.

A part (a pipeline) works for one process. A forked child finds none: it makes its own with its first trigger, and
what the parent recorded stays the parent's. Two things tell a child that it is one. Python's fork hook does so at
once, but uWSGI forks without calling it; so a client also looks at each call whether the mark of its part is still
set (see `mark`), and `_here` at the process id. Both only put new things in the place of the old: a lock that was
held at the fork stays held for ever in the child, so none that was inherited is ever taken.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any

from brockman.part import AnyPart, Hold, Part
from brockman.process.clock import monotonic
from brockman.process.exit import hear_of_the_end
from brockman.process.uwsgi import HOST


class _Process:
    """What one process has.

    Invariant: a part is in `parts` if and only if its mark is set; clients reach no other. One that is being
    closed stays in `unfinished` until nothing is left in it. `lock` guards `parts` and the `holders` of each part,
    for a few lines without I/O or foreign code at a time. It lets its own thread in again, since a finalizer may
    let go of a client inside these lines.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.lock = threading.RLock()
        self.parts: dict[Hashable, Part] = {}
        self.unfinished: set[Part] = set()  # those in `parts`, and those that are being closed
        # Whether no hook may come any more. The main thread counts as ended while the exit hooks run: then ours
        # comes too late to be called. Asked here and not for every trigger: CPython before 3.13 counts it as ended
        # for good if an exception strikes.
        self.is_ending = not threading.main_thread().is_alive()
        self.ended: dict[Hashable, Part] = {}  # those that the hook has closed: who comes later counts on
        self.closing_since: float | None = None  # on the clock, while the hook runs
        self.said_farewell = False  # since then, on the log
        self.spent = 0.0  # seconds that the end has taken until now, of the `shutdown_timeout` for all


_processes: dict[int, _Process] = {}  # by process id; each change and each look is one call into C
_left_behind: list[Part] = []  # in a forked child: those of the parent
substitutes: list[Callable[[Any], Any]] = []  # for tests: the last one is given every part that is made
when_left: list[Callable[[], object]] = []  # called in a forked child, when all is left to the parent
when_delivered: list[Callable[[], object]] = []  # called at the end of a process, after all that it delivers


def _here() -> _Process:
    """Return what this process has, which at first is nothing."""
    pid = os.getpid()
    process = _processes.get(pid)
    if process is None:
        process = _processes.setdefault(pid, _Process(pid))
        _leave_to_parent()
        hear_of_the_end(close_all, close_last)
    return process


def _leave_to_parent() -> None:
    """Have every part disowned that is the parent's, also one that it was closing."""
    here = os.getpid()
    gone = [_processes.pop(pid, None) for pid in list(_processes) if pid != here]
    inherited = [process for process in gone if process is not None]
    for part in [part for process in inherited for part in list(process.unfinished)]:
        with suppress(Exception):  # of a user's transport
            part.disown()
    if HOST.has_heirs:
        _left_behind[:] = [part for process in inherited for part in list(process.parts.values())] or _left_behind


def _after_fork_in_child() -> None:
    _leave_to_parent()  # what an earlier hook of somebody else has made here stays
    for call in when_left:
        with suppress(Exception):
            call()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def after_fork_of_host() -> None:
    """Do as the fork hook, which the host may not have called; the heir takes over what the parent has left."""
    _after_fork_in_child()
    if HOST.is_heir():
        for part in _left_behind:
            part.hand_over()
    _left_behind.clear()


def join(key: Hashable, hold: Hold, make: Callable[[], AnyPart]) -> AnyPart:
    """Return this process's part for a key, made if there is none, and have it held.

    Args:
        key: Equal keys share a part.
        hold: The client's.
        make: Makes a part that starts nothing. It may be called for nothing, when two threads come at once.
    """
    process = _here()
    fresh: AnyPart | None = None
    while True:
        with process.lock:
            part = process.parts.get(key)
            if part is None and fresh is not None:
                process.unfinished.add(fresh)
                part = process.parts[key] = fresh
                part.is_late = process.is_ending
            if part is not None:
                part.holders.add(hold)
                hold.part = part
                return part  # type: ignore[return-value]
        ended = process.ended.get(key)
        # Outside the lock: it may import, and an import may make a client.
        fresh = make() if ended is None else ended.succeed()
        for substitute in substitutes[-1:]:
            fresh = substitute(fresh)


def leave(hold: Hold) -> bool:
    """Let go of a part for a client that closes; return whether it is the last, whose part is closed with it."""
    part = hold.part
    if part is None or not part.mark[0]:
        return False
    with _here().lock:
        if not _let_go(part, hold):
            return False
        part.hurry()  # so that the thread sees it and ends, even if a Ctrl-C keeps the caller from closing
        forget(part)
        return True


def release(hold: Hold) -> None:
    """Let go of a part for a client that is gone."""
    part = hold.part
    if part is None or not part.mark[0]:
        return
    with _here().lock:
        was_last = _let_go(part, hold)
    if was_last:
        part.unheld()


def _let_go(part: Part, hold: Hold) -> bool:
    held = hold in part.holders
    part.holders.discard(hold)
    return held and not part.holders


def retire(part: Part) -> bool:
    """End a part that nobody holds and that holds nothing; return whether it has ended."""
    with _here().lock:
        if part.holders or not part.is_idle:
            return False
        forget(part)
        return True


def forget(part: Part) -> None:
    """Take a part out: it works no more. Who still holds it finds another one, or none, at the next call."""
    process = _processes.get(os.getpid())
    if process is not None and part.mark[0]:
        with process.lock:
            if process.parts.get(part.key) is part:
                del process.parts[part.key]
            # Last: if a Ctrl-C strikes before it, the next call does the rest. A part that stayed there without
            # its mark would be joined for ever, and lose in silence what comes to it.
            part.mark[0] = 0


def may_say_farewell() -> bool:
    """Return whether a part that closes may say on the log what it lost.

    Not when another one did so after the exit hook: each trigger that comes so late has a part of its own.
    """
    process = _here()
    if not process.is_ending or process.closing_since is not None:
        return True
    said, process.said_farewell = process.said_farewell, True
    return not said


def spend(limit: float, wait: Callable[[float], object]) -> None:
    """Wait at the end of the process, for half of what the waits before have left of `limit` seconds.

    Half, so that what comes later to another endpoint has its chance when this one does not answer.
    """
    process = _here()
    started = monotonic()
    try:
        wait(max(0.0, limit - process.spent) / 2)
    finally:
        process.spent += monotonic() - started


def finished(part: Part) -> None:
    """Note that nothing is left in a part that works no more."""
    process = _processes.get(os.getpid())
    if process is not None:
        process.unfinished.discard(part)


def used_parts() -> list[Part]:
    """Return the parts of this process that a trigger ever came to, those that are being closed among them.

    A signal may end the process in the middle of a close.
    """
    process = _processes.get(os.getpid())
    return [part for part in list(process.unfinished) if part.is_used] if process else []


def renew() -> None:
    """Close every part: clients make new ones with their next trigger."""
    process = _processes.get(os.getpid())
    for part in list(process.parts.values()) if process else []:
        part.close(part.shutdown_timeout)


def close_all() -> None:
    """Close every part that was used, all at the same time, within the longest of their timeouts.

    What is recorded afterwards comes to new parts.
    """
    process = _processes.get(os.getpid())
    if process is None:
        return
    outer = process.closing_since  # a SIGTERM comes in the middle: no more time for that
    started = monotonic() - process.spent if outer is None else outer
    process.closing_since = started
    parts = used_parts()
    try:
        for part in parts:
            part.begin_close(max(0.0, started + part.shutdown_timeout - monotonic()))
        for part in parts:
            part.close(started + part.shutdown_timeout - monotonic())
            process.ended[part.key] = part
    except BaseException:  # Ctrl-C: no more waiting, but nothing goes uncounted
        for part in parts:
            part.close(0.0)
        raise
    finally:
        process.closing_since = outer
        process.spent = monotonic() - started


def close_last() -> None:
    """Do as `close_all`; no hook comes after it, so what is recorded even later leaves at once."""
    process = _processes.get(os.getpid())
    if process is not None:
        process.is_ending = True
        for part in list(process.parts.values()):
            part.is_late = True
        close_all()
        tell_delivered()


def tell_delivered() -> None:
    """Call those who want to know that a process has delivered all that it will."""
    for call in when_delivered:
        with suppress(Exception):
            call()


atexit.register(close_last)


def flush_all() -> None:
    """Have every part deliver what it holds, within the longest of their timeouts; nothing is closed."""
    started = monotonic()
    parts = used_parts()
    for part in parts:
        part.hurry()
    for part in parts:
        part.flush(max(0.0, started + part.shutdown_timeout - monotonic()))


def after_request(now: bool) -> None:
    """Have every part use the time after a request of the host; see `brockman.process.uwsgi`."""
    for part in used_parts():
        part.after_request(now=now)
