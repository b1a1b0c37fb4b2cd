"""What the process that we live in can do: whether a thread would run in it, and what it calls when.

uWSGI puts a module of its name into the interpreters that it runs. Where its `has_threads` is off (the default
before 2.0.27), the interpreter's lock is given away only inside a request: a thread would stand still between
them. It calls `after_req_hook` when an answer is out, if that was set while the application was loaded, and no
exit hook at all under `--skip-atexit`.

Its master forks without holding the interpreter's lock, unless `--py-call-uwsgi-fork-hooks` is given. A thread of
the master that holds it at that moment holds it in the worker for ever, which then never answers. And the master
runs no exit hook. So nothing of ours runs there: the first worker takes over what the master has recorded.

A sub-interpreter may not end while a thread of its own is left, and nobody can wait until a daemon thread is gone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from brockman.process.threads import in_sub_interpreter, spawn_daemon

Spawn = Callable[[Callable[[], None]], None]

_NO_THREADS = (
    "{}, so triggers leave when a batch is full, when they have waited for flush_interval and another one comes"
    " or a request ends, and at exit{}"
)
_NO_EXIT = (
    "uWSGI runs with --skip-atexit, so no hook runs when a worker ends: triggers are delivered after each request,"
    " which keeps the worker busy; without the switch they leave in the background"
)


class Uwsgi:
    """The process that we live in, as far as it matters here.

    Attributes:
        calls_after_requests: Whether the hook that `prepare` set has been called: it may have come too late.
    """

    def __init__(self) -> None:
        self.calls_after_requests = False
        self._is_prepared = False

    @staticmethod
    def choose_spawn() -> Spawn:
        """Return what starts a thread here: it raises RuntimeError where none would run."""
        return spawn_daemon if why_no_threads() is None and not _is_master() else _refuse

    @property
    def is_present(self) -> bool:
        """Whether a child may take over what its parent has recorded."""
        return _uwsgi() is not None

    @staticmethod
    def is_first_worker() -> bool:
        """Return whether this process takes over what its parent has recorded."""
        uwsgi = _uwsgi()
        return (
            uwsgi is not None
            and uwsgi.worker_id() == 1
            and uwsgi.workers()[0]["pid"] == os.getpid()  # not in a child of the worker
            and uwsgi.workers()[0]["respawn_count"] == 0
        )

    def prepare(
        self, after_request: Callable[[bool], None], after_fork: Callable[[], None], at_exit: Callable[[], None]
    ) -> None:
        """Have functions called where no hook of Python would call them, and say what is to be known, once.

        Args:
            after_request: Called after each request, with whether it must deliver now: no exit hook will come.
            after_fork: Called in each worker of a master that has loaded the application.
            at_exit: Called at the end of a process that runs no exit hook of Python.
        """
        if self._is_prepared:
            return
        self._is_prepared = True
        uwsgi = _uwsgi()
        skips_exit = uwsgi is not None and bool(uwsgi.opt.get("skip-atexit"))
        problem = why_no_threads()
        if uwsgi is not None and (skips_exit or problem is not None):
            self._set_hook(uwsgi, lambda: after_request(skips_exit))
        if uwsgi is not None and _is_master():
            _chain(uwsgi, "post_fork_hook", after_fork)
        if uwsgi is not None and uwsgi.opt.get("skip-atexit-teardown"):
            _chain(uwsgi, "atexit", at_exit)
        if skips_exit:
            _warn(_NO_EXIT)
        if problem is not None:
            _warn(problem)

    def _set_hook(self, uwsgi: Any, call: Callable[[], None]) -> None:
        def after_request() -> None:
            self.calls_after_requests = True
            call()

        _chain(uwsgi, "after_req_hook", after_request)


UWSGI = Uwsgi()


def _warn(problem: str) -> None:
    import logging  # with a client, not with the module: `pipeline` has imported it

    from brockman.process.log import say

    say(logging.WARNING, problem)


def _uwsgi() -> Any:
    """Return uWSGI's module; None elsewhere."""
    module = sys.modules.get("uwsgi")
    return module if hasattr(module, "worker_id") else None


def _chain(uwsgi: Any, name: str, call: Callable[[], None]) -> None:
    """Set a hook, which also calls the one that was there."""
    before = getattr(uwsgi, name, None)

    def hook() -> None:
        call()
        if before is not None:
            before()

    setattr(uwsgi, name, hook)


def _is_master() -> bool:
    uwsgi = _uwsgi()
    return uwsgi is not None and bool(uwsgi.masterpid() == os.getpid())


def why_no_threads() -> str | None:
    """Return in words why no thread of ours is started here, and what follows; None where it is."""
    if not getattr(_uwsgi(), "has_threads", True):
        return _NO_THREADS.format("uWSGI runs without threads", "; start it with --enable-threads to change that")
    if in_sub_interpreter():
        return _NO_THREADS.format("no thread is started in a sub-interpreter", "")
    return None


def in_event_loop() -> bool:
    """Return whether the caller is in an event loop of asyncio, which must not block."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _refuse(target: Callable[[], None]) -> None:
    raise RuntimeError("no thread would run in this process")
