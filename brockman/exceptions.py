"""Every error brockman raises. All derive from `FocusLabError`:

    FocusLabError
        ConfigurationError (ValueError)   a setting is wrong: names it, its value, and what would be right
        InvalidTrigger (ValueError)       a trigger is wrong: carries the path and the value
        BufferFull                        overflow="raise" and there is no room
        ClientClosed                      send_trigger after close
        ConnectionFailed                  no answer came back
        AnswerError                       an answer came back, and it was not a success
            BadRequest                    400
            BadAPIKey                     401, 403
            ResourceNotFound              404
            ServerError                   500 and other 5xx
            UnknownError                  anything else

    try:
        client.send_trigger(actor_id="7", action="viewed", obj="pricing")
    except brockman.exceptions.BadAPIKey:
        ...

No message, attribute or pickle of these holds the API key.
"""

from __future__ import annotations


class FocusLabError(Exception):
    """The root: catch this to catch everything brockman raises."""


class ConfigurationError(FocusLabError, ValueError):
    """Raised when a setting is wrong."""


class InvalidTrigger(FocusLabError, ValueError):
    """Raised when a trigger cannot be sent as it is; the message starts with the path to the fault."""


class BufferFull(FocusLabError):
    """Raised by `record_trigger` when the buffer is full and `overflow="raise"`."""


class ClientClosed(FocusLabError):
    """Raised by `send_trigger` on a client that was closed."""


class ConnectionFailed(FocusLabError):
    """Raised when no answer came back: refused, reset, timed out, DNS, TLS.

    Attributes:
        stale: True when the failure was the reset of a kept-alive connection before any byte of an answer,
            which says nothing about the server: it had closed the connection while it lay idle.
    """

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class AnswerError(FocusLabError):
    """Raised when the server answered, but not with success.

    Attributes:
        status: The HTTP status.
        words: What the server said, shortened.
    """

    def __init__(self, status: int, words: str = "") -> None:
        super().__init__(status, words)
        self.status = status
        self.words = words

    def __str__(self) -> str:
        return f"the server answered {self.status}: {self.words or '(no text)'}"


class BadRequest(AnswerError):
    """Raised on 400: the server refused the trigger."""


class BadAPIKey(AnswerError):
    """Raised on 401 and 403: the API key is missing, wrong, or not allowed to do this."""


class ResourceNotFound(AnswerError):
    """Raised on 404: the endpoint is wrong."""


class ServerError(AnswerError):
    """Raised on 500 and every other 5xx."""


class UnknownError(AnswerError):
    """Raised on an answer that is neither a success nor one of the above."""


def from_status(status: int, words: str) -> AnswerError:
    """Return the exception that stands for an answer which is not a success."""
    if status == 400:
        return BadRequest(status, words)
    if status in (401, 403):
        return BadAPIKey(status, words)
    if status == 404:
        return ResourceNotFound(status, words)
    if 500 <= status <= 599:
        return ServerError(status, words)
    return UnknownError(status, words)
