"""`with` and `async with` for a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from brockman.process import sudden_exit

if TYPE_CHECKING:
    from brockman.delivery.pipeline import Pipeline

AnyClient = TypeVar("AnyClient", bound="WithBlocks")


class WithBlocks:
    """A client whose blocks open it again if it is closed. Of nested blocks the outermost closes it."""

    def _current(self) -> Pipeline:
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
