"""Points at which a process that works with a spool can die: before, in the middle of and after what it asks of
the system. Installed in a process of its own.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import signal
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

from brockman.buffer.spool.frame import HEADER
from brockman.transport import Answer
from brockman.transport.http import HttpTransport

_KINDS = (
    (re.compile(r"\d{8}"), "segment"),
    (re.compile(r"\d{8}\.ack"), "acknowledgement"),
    (re.compile(r"lock"), "lock"),
    (re.compile(r"\.\d+-[0-9a-f]{16}"), "hidden folder"),
    (re.compile(r"\d+-[0-9a-f]{16}"), "folder"),
)
_ACKNOWLEDGEMENT = struct.calcsize("<QI")


class Points:
    """Counts how often each point was reached, and kills the process at one of them."""

    def __init__(self, fatal: str, nth: int) -> None:
        self.seen: Counter[str] = Counter()
        self._fatal = fatal
        self._nth = nth

    def reach(self, point: str) -> None:
        """Die, if it is time."""
        self.seen[point] += 1
        if point == self._fatal and self.seen[point] == self._nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Put the points around the calls that the spool makes of the system."""
        for name in ("open", "mkdir", "rename", "unlink", "rmdir"):
            setattr(os, name, self._around(getattr(os, name), name, of_name=True))
        for name in ("posix_fallocate", "ftruncate", "pread"):
            if hasattr(os, name):
                setattr(os, name, self._around(getattr(os, name), name, of_name=False))
        fcntl.flock = self._around(fcntl.flock, "flock", of_name=False)
        os.pwrite = self._around_pwrite(os.pwrite)  # type: ignore[assignment]
        mmap.mmap = self._map_class()  # type: ignore[misc]
        HttpTransport.send = self._around_send(HttpTransport.send)  # type: ignore[method-assign]

    def _around(self, call: Callable[..., Any], name: str, *, of_name: bool) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            point = f"{name} {_kind(args[0])}" if of_name else name
            if of_name and not {"dir_fd", "src_dir_fd"} & kwargs.keys():  # none of the spool's
                return call(*args, **kwargs)
            self.reach(f"before {point}")
            result = call(*args, **kwargs)
            self.reach(f"after {point}")
            return result

        return called

    def _in_parts(self, point: str, data: bytes, write: Callable[[int, int], object]) -> None:
        """Have `write` write from one index to another: in two parts only where it is to die between them, since
        any other thread may be the one that dies meanwhile.
        """
        self.reach(f"before {point}")
        half = len(data) // 2 if self._fatal == f"amid {point}" else 0
        write(0, half)
        self.reach(f"amid {point}")
        write(half, len(data))
        self.reach(f"after {point}")

    def _around_pwrite(self, pwrite: Callable[[int, bytes, int], int]) -> Callable[[int, bytes, int], int]:
        def called(descriptor: int, data: bytes, offset: int) -> int:
            what = "acknowledgement" if len(data) == _ACKNOWLEDGEMENT else _content(data)
            self._in_parts(
                f"pwrite {what}", data, lambda start, stop: pwrite(descriptor, data[start:stop], offset + start)
            )
            return len(data)

        return called

    def _map_class(self) -> type[mmap.mmap]:
        points = self

        class Map(mmap.mmap):
            def __setitem__(self, place: Any, data: Any) -> None:
                first, put = place.start or 0, super().__setitem__
                points._in_parts(
                    f"copy {_content(data)}",
                    data,
                    lambda start, stop: put(slice(first + start, first + stop), data[start:stop]),
                )

        return Map

    def _around_send(self, send: Callable[..., Answer]) -> Callable[..., Answer]:
        def called(transport: HttpTransport, *args: Any) -> Answer:
            self.reach("before send")
            answer = send(transport, *args)
            self.reach("after send")
            return answer

        return called


def _kind(name: object) -> str:
    return next((kind for pattern, kind in _KINDS if pattern.fullmatch(str(name))), "other")


def _content(data: bytes) -> str:
    return "header" if data == HEADER else "frame"
