"""The end of a client: `flush`, `close`, and its `with` blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from brockman.delivery.flushing import Flushing
from brockman.process import sudden_exit
from brockman.process.clock import as_seconds, monotonic

if TYPE_CHECKING:
    from brockman.delivery.pipeline import Pipeline
    from brockman.stats import FlushResult

AnyClient = TypeVar("AnyClient", bound="Closing")


class Closing:
    """A client that flushes and closes. A block opens it again; of nested blocks the outermost closes it."""

    def _current(self) -> Pipeline:
        raise NotImplementedError

    def _is_last_to_close(self) -> bool:
        """Close the client, and return whether the caller is to close the pipeline."""
        raise NotImplementedError

    def _enter_block(self) -> None:
        raise NotImplementedError

    def _leave_block(self) -> bool:
        """Return whether the caller is to close the pipeline."""
        raise NotImplementedError

    def __enter__(self: AnyClient) -> AnyClient:
        sudden_exit.watch().enter_block()
        self._enter_block()
        return self

    def __exit__(self, *exception: object) -> None:
        pipeline = self._current()
        end = pipeline.close if self._leave_block() else pipeline.flush
        end(pipeline.shutdown_timeout)

    async def __aenter__(self: AnyClient) -> AnyClient:
        return self.__enter__()

    async def __aexit__(self, *exception: object) -> None:
        from brockman.delivery import aio  # not at the top: it imports asyncio

        pipeline = self._current()
        end = aio.close if self._leave_block() else aio.flush
        await end(pipeline, pipeline.shutdown_timeout)

    def flush(self, timeout: float | None = 10.0) -> FlushResult:
        """Block until everything recorded before the call is settled, or the timeout is over.

        Wakes the worker thread, and cuts a backoff short for one attempt. Does not wait for what is recorded
        meanwhile. Returns at once when a callback calls it. With `spool_dir` it first adopts what dead processes
        left there (of 64 at a time, or fewer when few files may be open), and waits for that too. `timeout` is in
        seconds; None means no limit.

        Returns:
            What happened during the call. True when nothing recorded before it is pending.
        """
        pipeline, seconds, begun = self._current(), as_seconds(timeout), monotonic()
        pipeline.buffer.adopt(seconds)
        return pipeline.flush(max(0.0, seconds - (monotonic() - begun)))

    async def aflush(self, timeout: float | None = 10.0) -> FlushResult:
        """Do the same as `flush`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio  # not at the top: it imports asyncio

        pipeline, seconds, begun = self._current(), as_seconds(timeout), monotonic()
        if pipeline.options.spool_dir is not None:
            await aio.adopt(pipeline, seconds)
        return await aio.flush(pipeline, max(0.0, seconds - (monotonic() - begun)))

    def flushing(self, timeout: float | None = 2.0) -> Flushing:
        """Return a context manager, also a decorator, that flushes at the end of the block or function.

        For processes that are frozen or ended right after it, such as AWS Lambda's. The client stays open. Works
        for coroutines, generators and async generators too.

            @client.flushing(timeout=2)
            def handler(event, context): ...

        Args:
            timeout: Seconds that the flush may take; None means no limit.
        """
        return Flushing(self.flush, self.aflush, timeout)

    def close(self, timeout: float | None = 5.0) -> FlushResult:
        """Flush, stop the worker thread, and close the connections.

        Blocks for `timeout` seconds at most, and no longer once the next attempt would be after them; None means
        no limit. What is not delivered by then is dropped as `shutdown`, and counted on one log line. Later
        triggers are dropped as `closed`. Closing again does nothing; `with` opens it again. While another client
        with equal settings is open, this only flushes.

        Returns:
            What happened during the call; `pending` counts what was not delivered.
        """
        pipeline, seconds = self._current(), as_seconds(timeout)
        return pipeline.close(seconds) if self._is_last_to_close() else pipeline.flush(seconds)

    async def aclose(self, timeout: float | None = 5.0) -> FlushResult:
        """Do the same as `close`, without blocking the event loop of `asyncio`."""
        from brockman.delivery import aio  # not at the top: it imports asyncio

        pipeline, seconds = self._current(), as_seconds(timeout)
        if self._is_last_to_close():
            return await aio.close(pipeline, seconds)
        return await aio.flush(pipeline, seconds)
