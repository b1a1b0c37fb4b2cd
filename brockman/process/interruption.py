"""Tell what a signal handler raises, such as a task's time limit, from what the interrupted code raises."""

from __future__ import annotations

from types import FrameType


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception is not the fault of the code that was called, and has to reach the caller.

    A signal handler gets the frame that it interrupts as an argument: so its own is known, whatever it raises.
    """
    traceback = error.__traceback__
    if isinstance(error, RecursionError | KeyboardInterrupt):
        return True
    if isinstance(error, MemoryError) and (traceback is None or traceback.tb_next is None):  # not of foreign code
        return True
    return bool(handler_frames(error))


def handler_frames(error: BaseException) -> list[FrameType]:
    """Return the frames of signal handlers in the traceback of an exception."""
    frames = []
    interrupted, traceback = None, error.__traceback__
    while traceback is not None:
        if interrupted is not None and _has_argument(traceback.tb_frame, interrupted):
            frames.append(traceback.tb_frame)
        interrupted, traceback = traceback.tb_frame, traceback.tb_next
    return frames


def _has_argument(frame: FrameType, searched: FrameType) -> bool:
    for value in frame.f_locals.values():
        if value is searched or (type(value) is tuple and any(item is searched for item in value)):
            return True
    return False
