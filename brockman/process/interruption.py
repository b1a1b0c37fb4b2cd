"""Tell what a signal handler raises, such as a task's time limit, from what the interrupted code raises."""

from __future__ import annotations

import dis
import sys
from types import FrameType

# Instructions that run no code, and look for what other threads throw in.
_LOOKING = {dis.opmap[name] for name in ("RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE") if name in dis.opmap}
_RAISING = {dis.opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in dis.opmap}


def is_interruption(error: BaseException) -> bool:
    """Return whether an exception is not the fault of the code that was called, and has to reach the caller.

    A signal handler gets the frame that it interrupts as an argument: so its own is known, whatever it raises.
    What another thread throws appears between two instructions, or where no statement raises, without arguments;
    what C code raises has some, or is of the standard library.
    """
    traceback = error.__traceback__
    if isinstance(error, RecursionError | KeyboardInterrupt):
        return True
    if isinstance(error, MemoryError) and (traceback is None or traceback.tb_next is None):  # not of foreign code
        return True
    return bool(handler_frames(error)) or _is_thrown_in(error)


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


def _is_of_standard_library(kind: type) -> bool:
    module = kind.__module__
    return type(module) is str and module.partition(".")[0] in sys.stdlib_module_names


def _is_thrown_in(error: BaseException) -> bool:
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    code = b"" if step is None else step.tb_frame.f_code.co_code  # Cython's frames have none
    if step is None or not 0 <= step.tb_lasti < len(code):
        return False
    if code[step.tb_lasti] in _LOOKING:
        return True
    bare = not error.args and error.__cause__ is None and not _is_of_standard_library(type(error))
    return bare and code[step.tb_lasti] not in _RAISING
