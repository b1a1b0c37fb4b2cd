"""uWSGI, and sub-interpreters: whether a thread would run in this process, and which hooks run.

uWSGI puts the module `uwsgi` into its interpreters. Without threads (`has_threads`, off by default before 2.0.27)
it releases the GIL only inside a request: a thread would stand still between requests. It calls `after_req_hook`
after each response, if that was set while the application was loaded, and no exit hook under `--skip-atexit`.

Its master forks without holding the GIL, unless `--py-call-uwsgi-fork-hooks` is given. If a thread of the master
holds it at that moment, it stays held in the worker, which never answers. The master runs no exit hook either. So
no thread is started there: the first worker takes over what the master recorded.

A sub-interpreter cannot end while a thread of its own runs, and the end of a daemon thread cannot be waited for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from brockman.process.threads import in_sub_interpreter, spawn_daemon

Spawn = Callable[..., None]  # takes what the thread runs, and its name

_NO_THREADS = (
    "{}, so triggers are sent when a batch is full, when flush_interval has passed and another trigger is recorded"
    " or a request ends, and at exit{}"
)
_NO_EXIT = (
    "uWSGI runs with --skip-atexit, so no hook runs when a worker ends: triggers are delivered after each request,"
    " which keeps the worker busy; without the switch they are delivered in the background"
)


class Uwsgi:
    """The uWSGI server that runs this process, if there is one.

    Attributes:
        calls_after_requests: Whether it has called our `after_req_hook`, which may have been set too late.
    """

    def __init__(self) -> None:
        self.calls_after_requests = False
        self._has_hooks = False

    @property
    def is_present(self) -> bool:
        """True under uWSGI, where a child may take over what its parent recorded."""
        return _module() is not None

    @staticmethod
    def is_first_worker() -> bool:
        """Return whether this process takes over what the master recorded."""
        uwsgi = _module()
        return (
            uwsgi is not None
            and uwsgi.worker_id() == 1
            and uwsgi.workers()[0]["pid"] == os.getpid()  # not in a child of the worker
            and uwsgi.workers()[0]["respawn_count"] == 0
        )

    def install_hooks(
        self,
        after_request: Callable[[bool], None],
        after_fork: Callable[[], None],
        at_exit: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        """Set the hooks that uWSGI calls instead of Python's, and log what is special here. Idempotent.

        Args:
            after_request: Called after each request; True means that it must deliver now, as no exit hook follows.
            after_fork: Called in each worker of a master that has loaded the application.
            at_exit: Called at the end of a process that runs no exit hook of Python.
            warn: Logs a warning.
        """
        if self._has_hooks:
            return
        self._has_hooks = True
        uwsgi = _module()
        skips_exit = uwsgi is not None and bool(uwsgi.opt.get("skip-atexit"))
        problem = no_threads_reason()

        def after_req_hook() -> None:
            self.calls_after_requests = True
            after_request(skips_exit)

        if uwsgi is not None and (skips_exit or problem is not None):
            _chain(uwsgi, "after_req_hook", after_req_hook)
        if _is_master():
            _chain(uwsgi, "post_fork_hook", after_fork)
        if uwsgi is not None and uwsgi.opt.get("skip-atexit-teardown"):
            _chain(uwsgi, "atexit", at_exit)
        if skips_exit:
            warn(_NO_EXIT)
        if problem is not None:
            warn(problem)


UWSGI = Uwsgi()


def thread_starter() -> Spawn:
    """Return the function that starts a thread in this process; it raises RuntimeError where none would run."""
    return spawn_daemon if no_threads_reason() is None and not _is_master() else _refuse


def _refuse(target: Callable[[], None], name: str = "") -> None:
    raise RuntimeError("no thread would run in this process")


def no_threads_reason() -> str | None:
    """Return why no thread is started here, and the consequences, for a log; None if threads are started."""
    if not getattr(_module(), "has_threads", True):
        return _NO_THREADS.format("uWSGI runs without threads", "; start it with --enable-threads to change that")
    if in_sub_interpreter():
        return _NO_THREADS.format("no thread is started in a sub-interpreter", "")
    return None


def _module() -> Any:
    """Return the module `uwsgi`, or None outside uWSGI."""
    module = sys.modules.get("uwsgi")
    return module if hasattr(module, "worker_id") else None


def _is_master() -> bool:
    uwsgi = _module()
    return uwsgi is not None and bool(uwsgi.masterpid() == os.getpid())


def _chain(uwsgi: Any, name: str, call: Callable[[], None]) -> None:
    """Set a hook that also calls the previous one."""
    previous = getattr(uwsgi, name, None)

    def hook() -> None:
        call()
        if previous is not None:
            previous()

    setattr(uwsgi, name, hook)
