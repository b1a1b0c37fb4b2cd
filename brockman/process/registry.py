"""Which pipelines a process has, and which clients use them.

A pipeline works in one process. A forked child has none: it makes its own with its first trigger, and what the
parent recorded stays the parent's. Python's fork hook detaches the child at once; where it does not run (uWSGI), a
client sees at its next call that the fork flag of its pipeline is cleared. A lock that was held at the fork stays
held for ever in the child, so a child takes no lock that it inherited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import TYPE_CHECKING

from brockman.process import fork
from brockman.process.uwsgi import UWSGI

if TYPE_CHECKING:
    from brockman.delivery.pipeline import Pipeline


class Lease:
    """A client's use of a pipeline. Outlives the client, so that a finalizer can release it."""

    __slots__ = ("pipeline",)

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None


class Process:
    """The pipelines of one process, and how far its exit has come.

    Invariant: a pipeline is in `pipelines` if and only if its fork flag is set; clients use no other. `unfinished`
    also has those that are being closed. `lock` guards `pipelines` and the `leases` of each pipeline, for a few
    lines without I/O or foreign code. It is re-entrant: a finalizer may release a lease inside these lines.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipelines: dict[Hashable, Pipeline] = {}
        self.unfinished: set[Pipeline] = set()
        # Whether no exit hook will run any more. The main thread counts as dead while exit hooks run, so a client
        # made then is too late for ours. Asked once: CPython before 3.13 keeps counting it as dead for good if an
        # exception strikes in `is_alive`.
        self.exiting = not threading.main_thread().is_alive()
        self.closed_at_exit: dict[Hashable, Pipeline] = {}  # their replacements continue their counts
        self.exit_started: float | None = None  # on the clock, while pipelines are closed at exit
        self.wrote_final_line = False
        self.exit_seconds_used = 0.0  # of the `shutdown_timeout` that all waits at exit share


_processes = fork.PerProcess(Process)
_of_parent: list[Pipeline] = []  # in a worker of uWSGI: those of the master
substitutes: list[
    Callable[[Pipeline], Pipeline]
] = []  # for tests: the last one replaces every pipeline that is made
first_use_hooks: list[Callable[[], object]] = []  # called in each process when it acquires its first pipeline
after_exit_hooks: list[Callable[[], object]] = []  # called when a process has delivered all that it will


def current() -> Process:
    """Return the state of this process."""
    process = _processes.peek()
    if process is None:
        _leave_to_parent()
        process = _processes.get()
        for hook in first_use_hooks:
            hook()
    return process


def existing() -> Process | None:
    """Return the state of this process, or None when it has used no client yet."""
    return _processes.peek()


def _leave_to_parent() -> None:
    """Detach every pipeline that is the parent's, also those that it was closing."""
    inherited = _processes.pop_inherited()
    for pipeline in [pipeline for process in inherited for pipeline in list(process.unfinished)]:
        with suppress(Exception):  # of a user's transport
            pipeline.after_fork_in_child()
    if UWSGI.is_present:
        _of_parent[:] = [one for process in inherited for one in list(process.pipelines.values())] or _of_parent


fork.after_fork_hooks.append(_leave_to_parent)


def after_uwsgi_fork() -> None:
    """Do as the fork hook, which uWSGI may skip; its first worker takes over what the master recorded."""
    fork.run_after_fork_hooks()
    if UWSGI.is_first_worker():
        for pipeline in _of_parent:
            pipeline.transfer_to_child()
    _of_parent.clear()


def acquire(key: Hashable, lease: Lease, make: Callable[[], Pipeline]) -> Pipeline:
    """Return this process's pipeline for a key, made if there is none, and note the lease.

    Args:
        key: Equal keys share a pipeline.
        lease: The client's.
        make: Makes a pipeline that starts nothing; of two made at once by two threads, one is thrown away.
    """
    process = current()
    fresh: Pipeline | None = None
    while True:
        with process.lock:
            pipeline = process.pipelines.get(key)
            if pipeline is None and fresh is not None:
                process.unfinished.add(fresh)
                pipeline = process.pipelines[key] = fresh
                pipeline.exiting = process.exiting
            if pipeline is not None:
                pipeline.leases.add(lease)
                lease.pipeline = pipeline
                return pipeline
        # Outside the lock: it may import, and an import may make a client.
        closed = process.closed_at_exit.get(key)
        fresh = make() if closed is None else closed.replacement()
        for substitute in substitutes[-1:]:
            fresh = substitute(fresh)


def release(lease: Lease) -> bool:
    """Release the lease of a client that closes; return whether it was the last, and the pipeline must close."""
    pipeline = lease.pipeline
    if pipeline is None or not pipeline.fork_flag[0]:
        return False
    with current().lock:
        if not _remove(pipeline, lease):
            return False
        pipeline.request_flush()  # the worker ends then, even if a Ctrl-C keeps the caller from closing
        unregister(pipeline)
        return True


def release_collected(lease: Lease) -> None:
    """Release the lease of a client that was garbage-collected."""
    pipeline = lease.pipeline
    if pipeline is None or not pipeline.fork_flag[0]:
        return
    with current().lock:
        was_last = _remove(pipeline, lease)
    if was_last:
        pipeline.on_last_release()


def _remove(pipeline: Pipeline, lease: Lease) -> bool:
    pipeline.leases.discard(lease)
    return not pipeline.leases


def close_if_idle(pipeline: Pipeline) -> bool:
    """Unregister a pipeline without leases and triggers; return whether it was."""
    with current().lock:
        if pipeline.leases or not pipeline.is_idle:
            return False
        unregister(pipeline)
        return True


def unregister(pipeline: Pipeline) -> None:
    """Remove a pipeline: clients that use it get another one at their next call, or none."""
    process = existing()
    if process is not None and pipeline.fork_flag[0]:
        with process.lock:
            if process.pipelines.get(pipeline.key) is pipeline:
                del process.pipelines[pipeline.key]
            # Last: if a Ctrl-C strikes before it, the next call does the rest. A pipeline that stayed registered
            # without its flag would be acquired for ever, and lose in silence what is recorded in it.
            pipeline.fork_flag[0] = 0


def finished(pipeline: Pipeline) -> None:
    """Note that a closed pipeline holds nothing any more."""
    process = existing()
    if process is not None:
        process.unfinished.discard(pipeline)


def active_pipelines() -> list[Pipeline]:
    """Return the pipelines of this process that ever got a trigger, also those that are being closed.

    A signal may end the process in the middle of a close.
    """
    process = existing()
    return [pipeline for pipeline in list(process.unfinished) if pipeline.is_used] if process else []


def restart_all() -> None:
    """Close every pipeline; clients acquire new ones with their next trigger."""
    process = existing()
    for pipeline in list(process.pipelines.values()) if process else []:
        pipeline.close(pipeline.shutdown_timeout)
