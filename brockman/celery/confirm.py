"""Confirmed mode: a message is acknowledged when the endpoint has accepted its trigger, or refused it for good.

One attempt for each execution of the task, in the worker's own thread. What may pass is published anew, to come
again later; meanwhile the broker keeps it, not this process.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from random import SystemRandom
from typing import Any, NoReturn, Protocol

from celery.exceptions import Ignore, Reject, Retry

from brockman.celery.group_commit import GroupCommit
from brockman.celery.notices import Notices
from brockman.client import FocusLabClient
from brockman.delivery import policy
from brockman.delivery.endpoint import Lessons
from brockman.delivery.policy import Ruling
from brockman.delivery.sending import Verdict
from brockman.exceptions import AnswerError, ConnectionFailed, FocusLabError
from brockman.process.clock import monotonic

_CUT_SHORT = Verdict(Ruling.AWAY, ConnectionFailed("the attempt was cut short"))
_rand = SystemRandom().random  # unlike `random`, never in the same state as the parent's


class Task(Protocol):
    """What is asked of the task."""

    request: Any  # Celery's

    def give_back(self, body: bytes, countdown: float, faults: int = 0) -> NoReturn:
        """See `RecordTask.give_back`."""


class Confirming:
    """Sends for the tasks of one process. In threads and gevent pools, those that run at once send together."""

    def __init__(self, client: FocusLabClient) -> None:
        """Make one in the process that it is used in."""
        options = client.options
        self._client = client
        self._lessons = Lessons(options.max_batch_bytes, monotonic)
        self._notices = Notices()
        self._together: GroupCommit[Verdict] = GroupCommit(
            self._send, _CUT_SHORT, max_count=options.max_batch_size, max_bytes=options.max_batch_bytes
        )

    def record(self, task: Task, body: bytes, faults: int) -> bool:
        """Send a trigger; return whether the endpoint accepted it. Blocks for one attempt, or two.

        Args:
            task: The task, in its execution.
            body: The trigger.
            faults: How often it has met a 500 before.

        Raises:
            Retry: When it was published anew.
            Reject: When that failed; the broker keeps the message.
        """
        try:
            return self._settle(task, body, self._attempt(body), faults)
        except (Retry, Reject, Ignore):
            raise
        except Exception as error:  # a soft time limit: anything but the loss of a trigger
            self._say_away(f"the attempt was cut short by {type(error).__name__}")
            task.give_back(body, self._backoff(task), faults)

    def _attempt(self, body: bytes) -> Verdict:
        # A task on the main thread is alone there (the prefork and solo pools), and takes no lock: an exception
        # that a signal handler raises, such as a soft time limit, finds none.
        if threading.current_thread() is threading.main_thread():
            return self._send([body])[0]
        return self._together.send(body)

    def _send(self, bodies: Sequence[bytes]) -> list[Verdict]:
        return self._client.send_encoded(bodies, self._lessons)

    def _settle(self, task: Task, body: bytes, verdict: Verdict, faults: int) -> bool:
        ruling, error = verdict.ruling, verdict.error
        if ruling is None or error is None:
            if ruling is Ruling.ACCEPTED and self._notices.over("away") | self._notices.over("setup"):
                self._notices.say(logging.INFO, "back", f"{self._client.options.endpoint} answers again")
            return ruling is Ruling.ACCEPTED
        if ruling is Ruling.SETUP:
            self._say_setup(error)
            task.give_back(body, policy.setup_delay(task.request.retries + 1), faults)
        if ruling is Ruling.AWAY:
            self._say_away(str(error))
            task.give_back(body, self._delay(task, verdict.asked), faults)
        if ruling is Ruling.FAULTY and faults + 1 < self._client.options.max_attempts:
            task.give_back(body, self._delay(task, verdict.asked), faults + 1)
        self._client.give_up(body, error)
        self._notices.say(logging.WARNING, "rejected", f"a trigger is lost: {error}")
        return False

    def _delay(self, task: Task, asked: float | None) -> float:
        """Return the seconds until the next attempt: those that the server asks for, and some, or our own."""
        options = self._client.options
        if asked is not None:
            return asked + policy.backoff(1, options.backoff_base, options.backoff_cap, _rand)
        return self._backoff(task)

    def _backoff(self, task: Task) -> float:
        options = self._client.options
        return policy.backoff(task.request.retries + 1, options.backoff_base, options.backoff_cap, _rand)

    def _say_away(self, cause: str) -> None:
        endpoint = self._client.options.endpoint
        self._notices.say(logging.WARNING, "away", f"{endpoint} is away ({cause}); triggers stay with the broker")

    def _say_setup(self, error: FocusLabError) -> None:
        status = error.status if isinstance(error, AnswerError) else 0
        advice = "check api_key (FL_API_KEY)" if status in (401, 403) else "check endpoint (FL_ENDPOINT)"
        text = f"{self._client.options.endpoint}: {error}: {advice}; until then triggers stay with the broker"
        self._notices.say(logging.ERROR, "setup", text)
