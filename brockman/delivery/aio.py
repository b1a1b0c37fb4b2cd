"""Waiting for a flush in the event loop of `asyncio`, which goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib

from brockman.delivery.pipeline import Pipeline
from brockman.process.clock import monotonic
from brockman.stats import FlushResult


class _LoopWakeup:
    """A wakeup that a coroutine waits for and any thread rings."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rang = asyncio.Event()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._rang.set)

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._rang.wait(), seconds)


async def adopt(pipeline: Pipeline, timeout: float) -> None:
    """Take over what processes that are gone have left, in a thread: it may be much."""
    with contextlib.suppress(RuntimeError):  # no thread can be had; the flusher does it by and by
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
    """Wait as `Pipeline.close` does. When the task is cancelled, what is left is given up and counted."""
    deadline = monotonic() + timeout
    pipeline.begin_close(timeout)
    left = 0.0
    try:
        flushed = await flush(pipeline, timeout)
        while pipeline.is_at_work and monotonic() < deadline:  # a callback, perhaps, that needs the loop
            await asyncio.sleep(0.01)
        left = 0.0 if pipeline.is_at_work else max(0.0, deadline - monotonic())
    finally:
        rest = pipeline.close(left)
    return FlushResult(
        delivered=flushed.delivered + rest.delivered,
        rejected=flushed.rejected + rest.rejected,
        dropped=flushed.dropped + rest.dropped,
        pending=rest.pending,
    )
