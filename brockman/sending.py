"""One trigger, sent in the caller's thread: a single attempt, and what came of it as an exception."""

from __future__ import annotations

from brockman.batch import parse_verdicts
from brockman.exceptions import BadRequest, ConnectionFailed, from_status
from brockman.retry import Ruling, classify
from brockman.transport import Transport


def send_now(transport: Transport, body: bytes) -> None:
    """Send one trigger; see `FocusLabClient.send_trigger`. Blocks.

    Raises:
        ConnectionFailed: When no answer came back.
        AnswerError: When the answer is not a success.
    """
    try:
        answer = transport.send(body)
    except ConnectionFailed as error:
        if not error.stale:
            raise
        answer = transport.send(body)  # the server had hung up while the connection was idle
    ruling = classify(answer.status, answer.content_type, answer.body)
    if ruling is Ruling.MIXED:
        for words in (parse_verdicts(answer.body, 1) or {}).values():
            raise BadRequest(400, words)
    elif ruling is not Ruling.ACCEPTED:
        raise from_status(answer.status, answer.words)
