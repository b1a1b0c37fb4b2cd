"""What a client is without its triggers: the settings, its hold on a pipeline, and flush and close."""

from __future__ import annotations

import math
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, TypeVar

from brockman.flushing import Flushing
from brockman.part import Hold
from brockman.process import registry, sigterm
from brockman.process.clock import monotonic
from brockman.process.uwsgi import HOST

if TYPE_CHECKING:
    import requests

    from brockman.delivery.pipeline import Pipeline
    from brockman.options import Options
    from brockman.stats import FlushResult, Stats
    from brockman.transport import Transport

AnyHolder = TypeVar("AnyHolder", bound="Holder")


class Holder:
    """Holds the pipeline of its process and settings, and knows what to do when it is another one's."""

    def __init__(
        self, options: Options, transport: Transport | None = None, session: requests.Session | None = None
    ) -> None:
        """Join the pipeline of this process for these options, or make it; see `FocusLabClient`."""
        # Imported here: a module that imports the client, and makes none, need not wait for it.
        from brockman.delivery.pipeline import Pipeline

        self.options = options
        if options.handle_sigterm:
            sigterm.install()
        self._refusal = None if options.enabled else "disabled"  # the reason why no trigger is taken
        HOST.prepare(registry.after_request, registry.after_fork_of_host, registry.close_last)
        self._hold = Hold()
        weakref.finalize(self, registry.release, self._hold).atexit = False
        is_own = transport is not None or session is not None
        self._key = self._hold if is_own else options.identity
        self._pipeline = registry.join(
            self._key, self._hold, lambda: Pipeline(options, transport, session, key=self._key)
        )

    def _current(self) -> Pipeline:
        """Return the pipeline to use: a new one in a forked child, and after the exit hook has closed one."""
        pipeline = self._pipeline
        if pipeline.mark[0] or (self._refusal is not None and not pipeline.is_foreign):
            return pipeline
        if self._refusal is None:
            self._pipeline = registry.join(self._key, self._hold, pipeline.succeed)
            if pipeline.is_foreign and HOST.is_heir():  # another one's fork hook is in the place of ours
                pipeline.buffer.give_away(self._pipeline.buffer.put)
        else:
            self._pipeline = pipeline.succeed()
        return self._pipeline

    def _refuse(self) -> bool:
        """Count a trigger that is not taken; return False."""
        return self._current().refuse(self._refusal or "closed")

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Block until everything recorded before the call is settled, or the timeout.

        Wakes the thread at once, and cuts a backoff wait short for one attempt. What other threads record
        meanwhile is not waited for. From a callback, which runs in that thread, it returns at once. What processes
        that are gone have left in `spool_dir` is adopted first, and waited for too: of 64 at a time, or
        fewer where few files may be open.

        Args:
            timeout: Seconds; None waits for as long as it takes.

        Returns:
            What happened meanwhile; true when nothing that was recorded before is pending.
        """
        pipeline, seconds, begun = self._current(), _seconds(timeout), monotonic()
        pipeline.buffer.adopt(seconds)
        return pipeline.flush(max(0.0, seconds - (monotonic() - begun)))

    async def aflush(self, timeout: float | None = 10.0) -> FlushResult:
        """Do as `flush`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio

        pipeline, seconds, begun = self._current(), _seconds(timeout), monotonic()
        if pipeline.options.spool_dir is not None:
            await aio.adopt(pipeline, seconds)
        return await aio.flush(pipeline, max(0.0, seconds - (monotonic() - begun)))

    def flushing(self, timeout: float | None = 2.0) -> Flushing:
        """Return a `with` block, also a decorator, that flushes at its end: where processes freeze or end at once.

        Both work for coroutines too (`async with`, `async def`). The client stays open.

            @client.flushing(timeout=2)
            def handler(event, context): ...

        Args:
            timeout: Seconds that the flush may take; None waits for as long as it takes.
        """
        return Flushing(self, timeout)

    def close(self, timeout: float | None = 5.0) -> FlushResult:
        """Flush, stop the thread, release the connections. Blocks for at most `timeout` seconds; None is for ever.

        What could not be delivered by then is counted as dropped under `shutdown`, and one line on the log says
        how many that were. Later triggers are dropped under `closed`. Closing again does nothing. While other
        clients with the same settings are open, only the flush is done, and nothing is given up.

        Returns:
            What happened meanwhile; `pending` is how many were not delivered.
        """
        pipeline, seconds = self._current(), _seconds(timeout)
        return pipeline.close(seconds) if self._is_last_to_close() else pipeline.flush(seconds)

    async def aclose(self, timeout: float | None = 5.0) -> FlushResult:
        """Do as `close`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio

        pipeline, seconds = self._current(), _seconds(timeout)
        if self._is_last_to_close():
            return await aio.close(pipeline, seconds)
        return await aio.flush(pipeline, seconds)

    def _is_last_to_close(self) -> bool:
        self._refusal = self._refusal or "closed"
        return registry.leave(self._hold)

    def stats(self) -> Stats:
        """Return a snapshot of the counts of this process and these settings. Does not block."""
        pipeline = self._pipeline
        return (self._current() if pipeline.is_foreign else pipeline).stats()

    def __enter__(self: AnyHolder) -> AnyHolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`."""
        self.close(self.options.shutdown_timeout)

    async def __aenter__(self: AnyHolder) -> AnyHolder:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close within `shutdown_timeout`, without blocking the event loop."""
        await self.aclose(self.options.shutdown_timeout)

    def __repr__(self) -> str:
        # In a traceback of what made it fail, or before its settings are read:
        if "_pipeline" not in self.__dict__:
            return f"<{type(self).__name__} not in use yet>"
        stats = self.stats()
        return (
            f"<{type(self).__name__} endpoint={self.options.endpoint!r} queued={stats.queued}"
            f" in_flight={stats.in_flight} delivered={stats.delivered} rejected={stats.rejected}"
            f" dropped={sum(stats.dropped.values())}>"
        )

    def __copy__(self: AnyHolder) -> AnyHolder:
        return self

    def __deepcopy__(self: AnyHolder, memo: object) -> AnyHolder:  # of a test's class data, say
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} cannot be pickled; make one in the process that uses it")


def _seconds(timeout: float | None) -> float:
    """Return a timeout as seconds to wait: None is infinite; less than nothing, or nan, is nothing."""
    if timeout is None:
        return math.inf
    try:
        seconds = float(timeout)  # a Decimal does not add to a float, and a lock takes no number of numpy's
    except (TypeError, ValueError, OverflowError) as error:
        kind = type(timeout).__name__
        raise type(error)(f"timeout: a value of type {kind} should be a number of seconds, or None") from None
    return seconds if seconds > 0 else 0.0
