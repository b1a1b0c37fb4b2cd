"""Flush and close without blocking the event loop of `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib

from brockman.delivery.pipeline import Pipeline
from brockman.process.clock import monotonic
from brockman.stats import FlushResult


class _LoopWakeup:
    """A wakeup for a coroutine; any thread may set it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)


async def adopt(pipeline: Pipeline, timeout: float) -> None:
    """Adopt what dead processes left in the spool, in a thread: it may take long."""
    with contextlib.suppress(RuntimeError):  # no thread can be started; the worker adopts later
        await asyncio.to_thread(pipeline.buffer.adopt, timeout)


async def flush(pipeline: Pipeline, timeout: float) -> FlushResult:
    """Wait as `Pipeline.flush` does."""
    before, watermark = pipeline.stats(), pipeline.buffer.admitted
    wakeup = _LoopWakeup()
    with contextlib.closing(pipeline.flush_waits(timeout, wakeup)) as waits:
        for seconds in waits:
            await wakeup.wait(seconds)
    return pipeline.result_since(before, watermark)


async def close(pipeline: Pipeline, timeout: float) -> FlushResult:
    """Wait as `Pipeline.close` does. When the task is cancelled, what is left is dropped and counted."""
    deadline = monotonic() + timeout
    pipeline.begin_close(timeout)
    left, rest = 0.0, None
    try:
        flushed = await flush(pipeline, timeout)
        while pipeline.is_at_work and monotonic() < deadline:  # perhaps in a callback that needs the loop
            await asyncio.sleep(0.01)
        left = 0.0 if pipeline.is_at_work else max(0.0, deadline - monotonic())
        if pipeline.calls_at_close:
            with contextlib.suppress(RuntimeError):  # no thread can be started
                rest = await asyncio.to_thread(pipeline.close, left)
    finally:
        rest = pipeline.close(left) if rest is None else rest
    return FlushResult(
        delivered=flushed.delivered + rest.delivered,
        rejected=flushed.rejected + rest.rejected,
        dropped=flushed.dropped + rest.dropped,
        pending=rest.pending,
    )
