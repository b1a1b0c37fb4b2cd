"""The end of a process: one deadline for all of its pipelines, whichever hook comes first."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from brockman.process import registry
from brockman.process.clock import monotonic
from brockman.process.uwsgi import UWSGI


def close_all() -> None:
    """Close every pipeline that was used, all at the same time, within the longest of their timeouts.

    What is recorded afterwards goes to new pipelines.
    """
    process = registry.existing()
    if process is None:
        return
    outer = process.exit_started  # a SIGTERM in the middle of closing gets no more time
    started = monotonic() - process.exit_seconds_used if outer is None else outer
    process.exit_started = started
    pipelines = registry.active_pipelines()
    try:
        for pipeline in pipelines:
            pipeline.begin_close(max(0.0, started + pipeline.shutdown_timeout - monotonic()))
        for pipeline in pipelines:
            pipeline.close(started + pipeline.shutdown_timeout - monotonic())
            process.closed_at_exit[pipeline.key] = pipeline
    except BaseException:  # Ctrl-C: no more waiting, but every trigger is counted
        for pipeline in pipelines:
            pipeline.close(0.0)
        raise
    finally:
        process.exit_started = outer
        process.exit_seconds_used = monotonic() - started


def close_last() -> None:
    """Do as `close_all` where no exit hook follows: triggers recorded afterwards are delivered inline."""
    process = registry.existing()
    if process is not None:
        process.exiting = True
        for pipeline in list(process.pipelines.values()):
            pipeline.exiting = True
        close_all()
        run_after_exit_hooks()


def run_after_exit_hooks() -> None:
    """Call every hook; one that raises does not keep the others from running."""
    for hook in registry.after_exit_hooks:
        with suppress(Exception):
            hook()


def flush_all() -> None:
    """Flush every pipeline, within the longest of their timeouts; close none."""
    started = monotonic()
    pipelines = registry.active_pipelines()
    for pipeline in pipelines:
        pipeline.request_flush()
    for pipeline in pipelines:
        pipeline.flush(max(0.0, started + pipeline.shutdown_timeout - monotonic()))


def after_request(now: bool) -> None:
    """Deliver between two requests of a uWSGI worker; see `brockman.process.uwsgi`."""
    for pipeline in registry.active_pipelines():
        pipeline.after_request(now=now)


def claim_final_line() -> bool:
    """Return whether a pipeline that closes may log what it lost.

    After the exit hook only the first may: each trigger recorded that late has a pipeline of its own.
    """
    process = registry.current()
    if not process.exiting or process.exit_started is not None:
        return True
    written, process.wrote_final_line = process.wrote_final_line, True
    return not written


def wait_within_exit_budget(limit: float, wait: Callable[[float], object]) -> None:
    """Call `wait` with half of what earlier waits at exit have left of `limit` seconds.

    Half, so that a later trigger for another endpoint has its chance when this one does not answer.
    """
    process = registry.current()
    started = monotonic()
    try:
        wait(max(0.0, limit - process.exit_seconds_used) / 2)
    finally:
        process.exit_seconds_used += monotonic() - started


def register_exit_hooks() -> None:
    """Have pipelines closed when this process ends: by atexit, multiprocessing, Celery or uWSGI.

    A forked child registers again. `atexit` runs the last registered hook first: `close_all` runs before the hooks
    of modules imported before the first client; `close_last`, registered when this module is imported, after them.
    """
    UWSGI.prepare(after_request, registry.after_uwsgi_fork, close_last)
    atexit.unregister(close_all)  # inherited
    atexit.register(close_all)
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None:
        # Children of multiprocessing end by os._exit, and clear the finalizers registered before they run: by then
        # a spawned one has imported the user's module and made the client.
        util.register_after_fork(close_last, _register_finalizer)
        if process.parent_process() is not None:
            _register_finalizer(close_last)
    signals = sys.modules.get("celery.signals")
    if signals is not None and hasattr(signals, "worker_process_shutdown"):
        # Children of Celery's pool end by os._exit too, and are no children of multiprocessing.

        def on_worker_process_shutdown(**_: Any) -> None:
            close_last()

        signals.worker_process_shutdown.connect(on_worker_process_shutdown, weak=False, dispatch_uid="brockman")


def _register_finalizer(close: Callable[[], None]) -> None:
    finalize: Any = sys.modules["multiprocessing.util"]
    finalize.Finalize(None, close, exitpriority=-100)  # the lowest priority runs last


atexit.register(close_last)
registry.first_use_hooks.append(register_exit_hooks)
