"""The context of a caller travels with each Celery task: in a header of its message.

Celery's signals do it, for every app and every task of the process. What a task publishes before it ends has the
context of the task: the next of a chain, the body of a chord, callbacks. An eager task runs in the context that is
there. A mistake in a trigger raises in a task, also where the caller was in a request in production.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun

from brockman import contexts
from brockman.exceptions import ConfigurationError
from brockman.options.celery import ContextSettings
from brockman.process.log import Log

HEADER = "brockman-context"
MAX_BYTES = 32 * 1024  # AMQP has one frame for all headers of a message, of 128 KiB by default
_AROUND = "brockman_around"  # the attribute of a request: the block around its task. A message may hold one, too
_log = Log()
_read: Callable[[], ContextSettings] = lambda: ContextSettings.read({}, os.environ)  # noqa: E731 - `read_with` replaces it


def read_with(read: Callable[[], ContextSettings]) -> None:
    """Have `celery_context` read from elsewhere than the environment; once, when it is first needed."""
    global _read
    _read = read
    _is_on.cache_clear()


@functools.cache
def _is_on() -> bool:
    """Return `celery_context`; with wrong settings its default, and log them."""
    try:
        return _read().celery_context
    except ConfigurationError as error:
        _log.once(logging.ERROR, f"{error}; until then tasks run in the context of their caller")
        _log.write()
        return ContextSettings().celery_context


def _add_header(headers: Any = None, body: Any = None, **_: Any) -> None:
    """Put the context into a message. A retry has that of its task, or none."""
    if contexts.get() is None or not _is_on() or HEADER in headers:
        return
    if (body if isinstance(body, dict) else headers).get("retries"):  # protocol 1 has them in the body
        return
    message = contexts.pack()
    text = _encode(message) if message else None
    if text is not None:
        headers[HEADER] = text


def _encode(message: dict[str, Any]) -> str | None:
    """Return a packed context as ASCII text, which every broker takes; without its values if it is too long.

    None if its actor alone is: a broker may refuse the message, and so fail the call.
    """
    text = json.dumps(message)
    if len(text) <= MAX_BYTES:
        return text
    actor = json.dumps({"actor_id": message["actor_id"]}) if "actor_id" in message else ""
    is_kept = 0 < len(actor) <= MAX_BYTES
    what_is_sent = "only its actor" if is_kept else "nothing of it"
    _log.event(
        "size",
        logging.WARNING,
        f"the context of a Celery task has {len(text)} bytes, more than {MAX_BYTES}: {what_is_sent} is sent",
    )
    return actor if is_kept else None


def _decode(text: Any) -> contexts.Context | None:
    """Return the context of a header, or None without one. Anything may be in a message."""
    try:
        message = json.loads(text) if isinstance(text, (str, bytes)) else None
    except (ValueError, RecursionError):
        return None
    return contexts.unpack(message) if isinstance(message, dict) else None


def _enter(task: Any, **_: Any) -> None:
    """Make the caller's context that of the task, in the thread or greenlet that is about to run it.

    Without a caller's it has none, whatever the thread has left from an earlier task.
    """
    request = task.request
    if request.is_eager or not _is_on():
        return
    around = contexts.entered(None)
    around.__enter__()
    setattr(request, _AROUND, around)
    contexts.entered(_decode(_find_header(request))).__enter__()


def _find_header(request: Any) -> Any:
    """Return the header of a task's message, and have its retries send it again; None without one.

    `request.headers` has the headers that are not Celery's and is what a retry sends. But a message of Sentry's or
    Datadog's has a header `headers`, which Celery takes for all of them.
    """
    headers = request.headers if isinstance(request.headers, dict) else {}
    text = vars(request).get(HEADER)
    if text is None:
        return headers.get(HEADER)
    if headers.get(HEADER) != text:
        request.headers = {**headers, HEADER: text}
    return text


def _leave(task: Any, **_: Any) -> None:
    """Go back to the context around the task, whatever the task has entered and not left."""
    around = vars(task.request).pop(_AROUND, None)
    if isinstance(around, contexts.entered):
        around.__exit__()


before_task_publish.connect(_add_header, weak=False, dispatch_uid="brockman.context")
task_prerun.connect(_enter, weak=False, dispatch_uid="brockman.context")
task_postrun.connect(_leave, weak=False, dispatch_uid="brockman.context")
