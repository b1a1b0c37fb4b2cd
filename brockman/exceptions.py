"""Every error that brockman raises. All derive from `FocusLabError`:

    FocusLabError
        ConfigurationError (ValueError)   a setting is wrong: names it, its value, and what would be right
        InvalidTrigger (ValueError)       a trigger is wrong: names the path and the value
        BufferFull                        the buffer is full and overflow="raise"
        ClientClosed                      send_trigger after close
        ConnectionFailed                  no answer came back
        AnswerError                       the answer was not a success
            BadRequest                    400
            BadAPIKey                     401, 403
            ResourceNotFound              404
            ServerError                   500 and other 5xx
            UnknownError                  anything else

None of them has the API key in its message, attributes or pickle.
"""

from __future__ import annotations


class FocusLabError(Exception):
    """The base class of every error that brockman raises."""


class ConfigurationError(FocusLabError, ValueError):
    """Raised when a setting is wrong."""


class InvalidTrigger(FocusLabError, ValueError):
    """Raised when a trigger cannot be sent; the message starts with the path to the mistake."""


class BufferFull(FocusLabError):
    """Raised by `record_trigger` when the buffer is full and `overflow="raise"`."""


class ClientClosed(FocusLabError):
    """Raised by `send_trigger` on a closed client."""


class ConnectionFailed(FocusLabError):
    """Raised when no answer came back: refused, reset, timed out, DNS, TLS.

    Attributes:
        stale: True for the reset of a kept-alive connection before the first byte of an answer: the server had
            closed it while it was idle, and may be well.
        unanswered: True when it broke off after the connection was there, and before the first byte of an answer.
    """

    def __init__(self, message: str, *, stale: bool = False, unanswered: bool = False) -> None:
        super().__init__(message)
        self.stale = stale
        self.unanswered = unanswered


class AnswerError(FocusLabError):
    """Raised when the answer of the server is not a success.

    Attributes:
        status: The HTTP status.
        words: The text of the answer, shortened.
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
    """Raised on any other answer that is not a success."""


_BY_STATUS: dict[int, type[AnswerError]] = {
    400: BadRequest,
    401: BadAPIKey,
    403: BadAPIKey,
    404: ResourceNotFound,
}


def from_status(status: int, words: str) -> AnswerError:
    """Return the exception for an answer that is not a success."""
    other = ServerError if 500 <= status <= 599 else UnknownError
    return _BY_STATUS.get(status, other)(status, words)
