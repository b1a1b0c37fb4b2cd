"""The end of a process: one deadline for all pipelines, whichever exit hook runs first."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from brockman.process import log_thread, pulse, registry
from brockman.process.clock import monotonic
from brockman.process.uwsgi import UWSGI

_LOG_SECONDS = 0.5  # beyond `shutdown_timeout`, that all exit hooks wait for the log
_LEAST_LOG_SECONDS = 0.1  # that each of them waits
_MAX_STRIKES = 1000  # exceptions in one step, before the next one is called

after_exit_hooks: list[Callable[[], object]] = []  # called when a process has delivered all that it will


def close_all() -> None:
    """Close every used pipeline, all at the same time, within the longest `shutdown_timeout`.

    Triggers recorded afterwards go to new pipelines. An exception that strikes meanwhile is raised at the end.
    """
    process = registry.existing()
    if process is None:
        return
    outer = process.exit_started  # set if a SIGTERM interrupts closing: it gets no more time
    started = monotonic() - process.exit_seconds_used if outer is None else outer
    process.exit_started = started
    pipelines = registry.active_pipelines()

    def wait() -> None:
        for pipeline in pipelines:
            pipeline.begin_close(max(0.0, started + pipeline.shutdown_timeout - monotonic()))
        for pipeline in pipelines:
            pipeline.wait_for_end(started + pipeline.shutdown_timeout)

    def finish() -> None:
        for pipeline in pipelines:
            pipeline.finish(started + pipeline.shutdown_timeout)
            process.closed_at_exit[pipeline.key] = pipeline

    try:
        complete(wait, finish)
    finally:
        process.exit_started = outer
        process.exit_seconds_used = monotonic() - started
    if not process.exiting:
        _wait_for_log(log_thread.wait_until_written)


def complete(*steps: Callable[[], object]) -> None:
    """Call each step until it returns, then raise the first exception that struck meanwhile.

    At the end of a process a signal handler may raise SystemExit (as in gunicorn's gevent worker) or
    KeyboardInterrupt inside a step. Each step is bounded in time, and continues when it is called again.
    """
    struck: BaseException | None = None
    for step in steps:
        for _ in range(_MAX_STRIKES):
            try:
                step()
                break
            except BaseException as error:
                struck = struck or error
    if struck is not None:
        raise struck


def close_last() -> None:
    """Call `close_all` where no exit hook follows: triggers recorded afterwards are delivered inline."""
    process = registry.existing()
    if process is not None:
        process.exiting = True
        for pipeline in list(process.pipelines.values()):
            pipeline.exiting = True
        complete(close_all, run_after_exit_hooks, lambda: _wait_for_log(log_thread.finish))
    else:
        _wait_for_log(log_thread.finish)


def _wait_for_log(wait: Callable[[float], object]) -> None:
    """Call `wait` with what is left of the longest `shutdown_timeout`, and a little more: a handler may block."""
    process = registry.existing()
    if process is None:
        wait(_LOG_SECONDS)
        return
    limit = max((pipeline.shutdown_timeout for pipeline in list(process.closed_at_exit.values())), default=0.0)
    started = monotonic()
    try:
        wait(max(_LEAST_LOG_SECONDS, limit + _LOG_SECONDS - process.exit_seconds_used))
    finally:
        process.exit_seconds_used += monotonic() - started


def run_after_exit_hooks() -> None:
    """Call every hook, whether or not another one raises."""
    for hook in after_exit_hooks:
        with suppress(Exception):
            hook()


def flush_all() -> None:
    """Flush every pipeline within the longest `shutdown_timeout`."""
    started = monotonic()
    pipelines = registry.active_pipelines()

    def flush() -> None:
        for pipeline in pipelines:
            pipeline.request_flush()
        for pipeline in pipelines:
            pipeline.flush(max(0.0, started + pipeline.shutdown_timeout - monotonic()))

    complete(flush)


def after_request(now: bool) -> None:
    """Deliver between two requests of a uWSGI worker; see `brockman.process.uwsgi`."""
    for pipeline in registry.active_pipelines():
        pipeline.after_request(now=now)
    pulse.beat_here()


def claim_final_line() -> bool:
    """Return whether a pipeline that closes may log its losses.

    After the last exit hook only the first may: each trigger recorded then gets a pipeline of its own.
    """
    process = registry.current()
    if not process.exiting or process.exit_started is not None:
        return True
    written, process.wrote_final_line = process.wrote_final_line, True
    return not written


def has_time_left(limit: float) -> bool:
    """Return whether waits at exit have used less than `limit` seconds."""
    return registry.current().exit_seconds_used < limit


def wait_within_exit_budget(limit: float, wait: Callable[[float], object]) -> None:
    """Call `wait` with half of the seconds that earlier waits at exit have left of `limit`.

    The other half is for later triggers to other endpoints, in case this one does not answer.
    """
    process = registry.current()
    started = monotonic()
    try:
        wait(max(0.0, limit - process.exit_seconds_used) / 2)
    finally:
        process.exit_seconds_used += monotonic() - started


def register_exit_hooks() -> None:
    """Register with atexit, multiprocessing, Celery and uWSGI to close the pipelines of this process.

    A forked child registers again. `atexit` runs the last registered hook first: `close_all` runs before the hooks
    registered earlier than the first client, and `close_last`, registered on import, after those registered later.
    """
    UWSGI.install_hooks(after_request, registry.after_uwsgi_fork, close_last, _warn)
    atexit.unregister(close_all)  # inherited
    atexit.register(close_all)
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None:
        # Children of multiprocessing end with os._exit. They clear the finalizers registered before their target
        # runs, among them those of a client that a spawned child made when it imported the user's module.
        util.register_after_fork(close_last, _register_finalizer)
        if process.parent_process() is not None:
            _register_finalizer(close_last)
    signals = sys.modules.get("celery.signals")
    if signals is not None and hasattr(signals, "worker_process_shutdown"):
        # Children of Celery's pool end with os._exit too, and do not run multiprocessing's finalizers.

        def on_worker_process_shutdown(**_: Any) -> None:
            close_last()

        signals.worker_process_shutdown.connect(on_worker_process_shutdown, weak=False, dispatch_uid="brockman")


def _register_finalizer(close: Callable[[], None]) -> None:
    finalize: Any = sys.modules["multiprocessing.util"]
    finalize.Finalize(None, close, exitpriority=-100)  # the lowest priority runs last


def _warn(text: str) -> None:
    import logging  # here, to keep `import brockman.client` fast

    from brockman.process.log import say

    say(logging.WARNING, text)


atexit.register(close_last)
registry.first_use_hooks.append(register_exit_hooks)
