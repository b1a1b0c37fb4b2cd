"""Many threads record through one client, as the threads of a web server do, and every call is timed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

from brockman.cli.arguments import Arguments
from brockman.client import FocusLabClient

THREADS = 8


def record_all(client: FocusLabClient, compose: Callable[[int], Arguments], count: int) -> list[int]:
    """Record the triggers 1 to `count`, from `THREADS` threads.

    All stop when one is not buffered. When this is interrupted, the client is closed: a thread that waits for
    room in the buffer waits no longer.

    Args:
        client: What to record through.
        compose: Returns the arguments of the trigger of a number.
        count: How many.

    Returns:
        What each call of `record_trigger` took, in nanoseconds.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="demo")
    try:
        shares = [
            pool.submit(_record_share, client, compose, range(first, count + 1, THREADS), stop)
            for first in range(1, THREADS + 1)
        ]
        return [cost for share in shares for cost in share.result()]
    except BaseException:
        stop.set()
        client.close(0.0)
        raise
    finally:
        pool.shutdown()


def _record_share(
    client: FocusLabClient, compose: Callable[[int], Arguments], numbers: range, stop: threading.Event
) -> list[int]:
    costs = []
    for number in numbers:
        if stop.is_set():
            break
        arguments = compose(number)
        before = perf_counter_ns()
        recorded = client.record_trigger(*arguments)
        costs.append(perf_counter_ns() - before)
        if not recorded:
            stop.set()
    return costs
