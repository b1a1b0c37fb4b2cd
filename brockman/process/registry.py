"""The pipelines of this process, and the clients that use them.

A pipeline belongs to one process. A forked child makes its own with its first trigger, and the parent delivers
what it recorded. Python's fork hook detaches the child at once; where the hook does not run (uWSGI), a client sees
at its next call that the fork flag of its pipeline is cleared. A lock that was held at the fork stays held forever
in the child, so a child takes no inherited lock.
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
    """A client's use of a pipeline. A finalizer releases it after the client is gone."""

    __slots__ = ("pipeline",)

    def __init__(self) -> None:
        self.pipeline: Pipeline | None = None


class Process:
    """The pipelines of one process, and the state of its exit.

    Invariant: a pipeline is in `pipelines` if and only if its fork flag is set; clients use no other. `unfinished`
    also contains those that are being closed. `lock` guards `pipelines` and the `leases` of each pipeline, for a
    few lines without I/O or foreign code. It is re-entrant: a finalizer may release a lease inside these lines.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.pipelines: dict[Hashable, Pipeline] = {}
        self.unfinished: set[Pipeline] = set()
        # Whether no exit hook follows. The main thread counts as dead while exit hooks run, and hooks registered
        # then do not run. Checked once: before 3.13 an exception inside `is_alive` makes CPython count it as dead
        # for good.
        self.exiting = not threading.main_thread().is_alive()
        self.closed_at_exit: dict[Hashable, Pipeline] = {}  # replacements continue their counts
        self.exit_started: float | None = None  # monotonic time, while pipelines are closed at exit
        self.wrote_final_line = False
        self.exit_seconds_used = 0.0  # of `shutdown_timeout`, by all waits at exit


_processes = fork.PerProcess(Process)
_uwsgi_inherited: list[Pipeline] = []  # in a worker of uWSGI: the master's
substitutes: list[Callable[[Pipeline], Pipeline]] = []  # for tests: the last one replaces every new pipeline
made_hooks: list[Callable[[Pipeline], object]] = []  # called with each new pipeline, under the lock
first_use_hooks: list[Callable[[], object]] = []  # called in each process before it acquires its first pipeline


def current() -> Process:
    """Return the state of this process."""
    process = _processes.peek()
    if process is None:
        _detach_inherited()
        for hook in first_use_hooks:  # before the state exists, so that they run again after a Ctrl-C here
            hook()
        process = _processes.get()
    return process


def existing() -> Process | None:
    """Return the state of this process, or None when it has used no client yet."""
    return _processes.peek()


def _detach_inherited() -> None:
    """Detach every pipeline of the parent, also those that it was closing."""
    inherited = _processes.pop_inherited()
    for pipeline in [pipeline for process in inherited for pipeline in list(process.unfinished)]:
        with suppress(Exception):  # of a user's transport
            pipeline.after_fork_in_child()
    if UWSGI.is_present:
        registered = [pipeline for process in inherited for pipeline in list(process.pipelines.values())]
        _uwsgi_inherited[:] = registered or _uwsgi_inherited


# First: the other hooks close only descriptors that no pipeline has closed.
fork.after_fork_hooks.insert(0, _detach_inherited)


def after_uwsgi_fork() -> None:
    """Run the fork hooks, which uWSGI may skip; in its first worker, take over what the master recorded."""
    fork.run_after_fork_hooks()
    if UWSGI.is_first_worker():
        for pipeline in _uwsgi_inherited:
            pipeline.transfer_to_child()
    _uwsgi_inherited.clear()


def acquire(key: Hashable, lease: Lease, make: Callable[[], Pipeline]) -> Pipeline:
    """Return this process's pipeline for a key, made on demand, and add the lease to it.

    Args:
        key: Equal keys share a pipeline.
        lease: The client's.
        make: Returns a pipeline and starts nothing. If two threads call it at once, one pipeline is discarded.
    """
    process = current()
    fresh: Pipeline | None = None
    while True:
        with process.lock:
            pipeline = process.pipelines.get(key)
            if pipeline is None and fresh is not None:
                for hook in made_hooks:
                    hook(fresh)
                process.unfinished.add(fresh)
                pipeline = process.pipelines[key] = fresh
                pipeline.exiting = process.exiting
            if pipeline is not None:
                pipeline.leases.add(lease)
                lease.pipeline = pipeline
                return pipeline
        # Outside the lock, because it may import, and an import may make a client.
        closed = process.closed_at_exit.get(key)
        fresh = make() if closed is None else closed.replacement()
        for substitute in substitutes[-1:]:
            fresh = substitute(fresh)


def release(lease: Lease) -> bool:
    """Release the lease of a client that closes; return whether it was the last, so that the caller closes."""
    pipeline = lease.pipeline
    if pipeline is None or not pipeline.is_registered:
        return False
    with current().lock:
        pipeline.leases.discard(lease)
        if pipeline.leases:
            return False
        pipeline.request_flush()  # so that the worker ends even if a Ctrl-C stops the caller before it closes
        unregister(pipeline)
        return True


def release_collected(lease: Lease) -> None:
    """Release the lease of a client that was garbage-collected."""
    pipeline = lease.pipeline
    if pipeline is None or not pipeline.is_registered:
        return
    with current().lock:
        pipeline.leases.discard(lease)
        was_last = not pipeline.leases
    if was_last:
        pipeline.on_last_release()


def close_if_idle(pipeline: Pipeline) -> bool:
    """Unregister a pipeline if it has no leases and no triggers; return whether it had none."""
    with current().lock:
        if pipeline.leases or not pipeline.is_idle:
            return False
        unregister(pipeline)
        return True


def unregister(pipeline: Pipeline) -> None:
    """Remove a pipeline: its clients acquire another one at their next call, or none if they are closed."""
    process = existing()
    if process is not None and pipeline.is_registered:
        with process.lock:
            if process.pipelines.get(pipeline.key) is pipeline:
                del process.pipelines[pipeline.key]
            # Last: if a Ctrl-C strikes before it, the next call completes the removal. A pipeline registered
            # without its flag would be acquired again and again, and silently lose what is recorded in it.
            pipeline.fork_flag = fork.CLEARED


def finished(pipeline: Pipeline) -> None:
    """Forget a closed pipeline, which holds nothing any more."""
    process = existing()
    if process is not None:
        process.unfinished.discard(pipeline)


def active_pipelines() -> list[Pipeline]:
    """Return the pipelines that ever received a trigger, also those that are being closed.

    Those, because a signal may end the process in the middle of a close.
    """
    process = existing()
    return [pipeline for pipeline in list(process.unfinished) if pipeline.is_used] if process else []


def restart_all() -> None:
    """Close every pipeline; clients acquire new ones with their next trigger."""
    process = existing()
    for pipeline in list(process.pipelines.values()) if process else []:
        pipeline.close(pipeline.shutdown_timeout)
