"""Who tells a process that it ends: Python's exit hooks, those of multiprocessing's children, Celery's signal."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import Any


def hear_of_the_end(close_all: Callable[[], None], close_last: Callable[[], None]) -> None:
    """Have functions called when this process ends. A forked child has to say it again.

    Hooks of `atexit` run from the last to the first. So `close_all` comes before those of whoever was there
    earlier, and `close_last`, which is registered with the import, after those of whoever came later.

    Args:
        close_all: Called by `atexit`.
        close_last: Called where no other hook comes after.
    """
    atexit.unregister(close_all)  # inherited, perhaps
    atexit.register(close_all)
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is not None and process is not None:
        # The children of multiprocessing end by os._exit, and forget on their way in what was registered before:
        # a spawned one has imported the user's module by then, and made the client.
        util.register_after_fork(close_last, _finalize_last)
        if process.parent_process() is not None:
            _finalize_last(close_last)
    signals = sys.modules.get("celery.signals")
    if signals is not None and hasattr(signals, "worker_process_shutdown"):
        # The children of Celery's pool end by os._exit too, and are no children of multiprocessing.

        def pool_child_ends(**_: Any) -> None:
            close_last()

        signals.worker_process_shutdown.connect(pool_child_ends, weak=False, dispatch_uid="brockman")


def _finalize_last(close: Callable[[], None]) -> None:
    finalize: Any = sys.modules["multiprocessing.util"]
    finalize.Finalize(None, close, exitpriority=-100)  # the lowest goes last
