"""What a worker does with a message: the trigger in it is recorded, or sent, as the settings say."""

from __future__ import annotations

import json
import logging
import uuid
from typing import Any, NoReturn

from brockman.celery.buffering import Buffering
from brockman.celery.confirm import Confirming
from brockman.celery.notices import Notices
from brockman.delivery import policy
from brockman.exceptions import FocusLabError, InvalidTrigger

_PARTS = ("id", "actor_id", "action", "object")  # of every trigger


class Executor:
    """Executes the task in one process."""

    def __init__(self) -> None:
        """Make one in the process that it is used in; starts nothing."""
        self._notices = Notices()
        self._buffering = Buffering()
        self._confirming: Confirming | None = None

    def execute(self, task: Any, arguments: tuple[Any, ...], trigger: Any, faults: Any) -> bool:
        """Do the work of `brockman.celery.task.record_trigger`, in the execution of a task or called directly."""
        request, faults = task.request, faults if isinstance(faults, int) else 0
        if request.called_directly or request.is_eager:
            return self._record_here(task, arguments, trigger)
        if trigger:
            self._hold_if_misconfigured(task, trigger, faults)
        if trigger is None:  # published by name, with the arguments as they are
            body = task.client.encode_trigger(*arguments, trigger_id=as_uuid(request.id))
        else:
            body = check(trigger) if trigger != "" else None
        if body is None:
            return False
        if not task.is_confirmed:
            return self._buffering.record(task, body)
        if self._confirming is None:
            self._confirming = Confirming(task.client)
        return self._confirming.record(task, body, faults)

    def refuse(self, task: Any, body: bytes, error: FocusLabError) -> None:
        """Count a message that holds no trigger, and say so."""
        self._notices.say(logging.ERROR, "refused", f"a message holds no trigger and is given up: {error}")
        if task.find_problem() is None:
            task.client.give_up(body, error)

    @staticmethod
    def _record_here(task: Any, arguments: tuple[Any, ...], trigger: Any) -> bool:
        client = task.client
        if trigger is not None:
            return trigger != "" and bool(client.record_encoded(check(trigger)))
        if task.request.called_directly:
            return bool(client.record_trigger(*arguments))
        body = client.encode_trigger(*arguments, trigger_id=as_uuid(task.request.id))
        return body is not None and bool(client.record_encoded(body))

    def _hold_if_misconfigured(self, task: Any, trigger: Any, faults: int) -> None:
        """Give the message back if this worker's settings are wrong: nothing is lost until a person acts."""
        problem = task.find_problem()
        if problem is None:
            return
        self._notices.say(logging.ERROR, "problem", f"{problem}; until then triggers stay with the broker")
        task.give_back(check(trigger), policy.setup_delay(task.request.retries + 1), faults)


def check(trigger: Any) -> bytes:
    """Return the trigger of a message. Who may publish to the broker may publish anything.

    Raises:
        InvalidTrigger: When it is none; it would spoil the batch that it is sent in.
    """
    if not isinstance(trigger, str):
        raise InvalidTrigger(f"the message's trigger is a {type(trigger).__name__}; it should be JSON text")
    try:
        content = json.loads(trigger, parse_constant=_refuse_constant)
        body = trigger.encode()
    except (ValueError, RecursionError) as error:
        raise InvalidTrigger(f"the message's trigger is not JSON: {error}"[:300]) from None
    if not isinstance(content, dict) or not all(isinstance(content.get(part), str) for part in _PARTS):
        raise InvalidTrigger(f"the message's trigger is not complete: {trigger[:100]!r}")
    return body


def as_uuid(text: Any) -> str | None:
    """Return a UUID as text, or None when this is none."""
    try:
        return str(uuid.UUID(text))
    except (ValueError, TypeError, AttributeError):
        return None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
